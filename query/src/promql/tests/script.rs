//! Reads small scripts in the manner of Prometheus' test language: `load`, `eval instant`, `eval range`, `clear`.
//!
//! Series `name{...} values` become the measurement `name` with the float field `value`. Expectations below an eval:
//! series and values, a number, `expect string`, `expect fail [msg: text]`, `expect ordered`; others are not looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use icecore_storage::model::{SeriesKey, Value};
use icecore_storage::scan::Resolution;
use regex::Regex;

use crate::promql::number::{parse_duration, parse_number};
use crate::promql::testing::VecScan;
use crate::promql::{Answer, Context, Labels, QueryValue, Sample, instant, parse, range};
use crate::{Budget, Limits, Result};

/// Evaluates a query with the default limits.
pub(super) fn with_context<T>(scan: &VecScan, ask: impl FnOnce(&Context<'_>) -> T) -> T {
    let budget = Budget::untimed(Limits::default());
    let lookback = Duration::from_secs(300);
    ask(&Context { scan, budget: &budget, lookback, resolution: Resolution::Auto })
}

/// Runs a script; every eval must come out as written.
pub(super) fn check(script: &str) {
    let (_, failures) = run(script);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a script; gives the number of evals and what failed.
pub(super) fn run(script: &str) -> (usize, Vec<String>) {
    let lines: Vec<&str> =
        script.lines().map(|line| if line.starts_with('#') { "" } else { line.trim() }).collect();
    let mut scan = VecScan::default();
    let (mut count, mut failures) = (0, Vec::new());
    for block in lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()) {
        let mut at = 0;
        while let Some(head) = block.get(at) {
            let is_head = |line: &&str| ["load", "eval", "clear"].iter().any(|word| line.starts_with(word));
            let body_len = block[at + 1..].iter().take_while(|line| !is_head(line)).count();
            let body = &block[at + 1..at + 1 + body_len];
            at += 1 + body_len;
            if head.starts_with("clear") {
                scan = VecScan::default();
            } else if let Some(step) = head.strip_prefix("load ").or(head.strip_prefix("load_with_nhcb ")) {
                body.iter().for_each(|line| load(&mut scan, time(step.trim()), line));
            } else {
                count += 1;
                if let Err(reason) = eval(&scan, head, body) {
                    failures.push(format!("{head}\n    {reason}"));
                }
            }
        }
    }
    (count, failures)
}

fn time(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let seconds = || parse_number(text).map(|seconds| (seconds * 1e9) as i64);
    sign * parse_duration(text).or_else(seconds).unwrap_or_else(|| panic!("not a time: {text}"))
}

/// Cuts a line into labels and values.
fn series_line(line: &str) -> (Labels, Vec<Option<f64>>) {
    let (mut quoted, mut depth, mut end) = (false, 0, line.len());
    for (place, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            c if c.is_whitespace() && !quoted && depth == 0 => {
                end = place;
                break;
            }
            _ => {}
        }
    }
    let (name, values) = line.split_at(end);
    // A name that surely stands makes any label set a selector.
    let (name, braces) = name.split_at(name.find('{').unwrap_or(name.len()));
    let mut pairs = Vec::new();
    if braces.len() > 2 {
        let selector = crate::promql::parse_selector(&format!("x{braces}"));
        let selector = selector.or_else(|_| crate::promql::parse_selector(braces)).unwrap();
        pairs.extend(selector.name.filter(|name| name != "x").map(|name| ("__name__".to_owned(), name)));
        pairs.extend(selector.matchers.into_iter().map(|matcher| (matcher.label, matcher.value)));
    }
    if !name.is_empty() {
        pairs.push(("__name__".to_owned(), name.to_owned()));
    }
    (Labels::new(pairs), values.split_whitespace().flat_map(sequence).collect())
}

fn sequence(text: &str) -> Vec<Option<f64>> {
    if let Some(times) = text.strip_prefix('_') {
        let times = times.strip_prefix('x').map_or(1, |times| times.parse().unwrap());
        return vec![None; times];
    }
    if text == "stale" {
        return vec![Some(f64::from_bits(0x7ff0_0000_0000_0002))];
    }
    let number = r"(?:inf|nan|[0-9.]+(?:e[-+]?\d+)?)";
    let pattern = format!(r"(?i)^([-+]?{number})(?:([-+])({number}))?(?:x(\d+))?$");
    let pattern = Regex::new(&pattern).unwrap();
    let Some(parts) = pattern.captures(text) else { return vec![Some(f64::NAN)] };
    let part = |index: usize| parts.get(index).map(|part| part.as_str());
    let mut value: f64 = part(1).unwrap().parse().unwrap();
    let sign = if part(2) == Some("-") { -1.0 } else { 1.0 };
    let step: f64 = part(3).map_or(0.0, |step| step.parse().unwrap());
    let mut values = vec![Some(value)];
    for _ in 0..part(4).map_or(0, |times| times.parse::<usize>().unwrap()) {
        value += sign * step;
        values.push(Some(value));
    }
    values
}

fn load(scan: &mut VecScan, step_ns: i64, line: &str) {
    if line.contains("{{") || line.contains("@st") {
        return;
    }
    let (labels, values) = series_line(line);
    let tags = labels.iter().filter(|(name, _)| *name != "__name__");
    let key = SeriesKey::new(labels.name(), tags).unwrap();
    for (index, value) in values.into_iter().enumerate() {
        if let Some(value) = value {
            scan.push(&key, "value", step_ns * index as i64, Value::Float(value));
        }
    }
}

fn eval(scan: &VecScan, head: &str, body: &[&str]) -> std::result::Result<(), String> {
    let (command, rest) = head.split_once(' ').unwrap();
    let (kind, rest) = rest.trim().split_once(' ').unwrap();
    let word = |text: &str, index: usize| text.split_whitespace().nth(index).unwrap().to_owned();
    let after = |text: &str, words: usize| {
        let mut text = text.trim_start();
        for _ in 0..words {
            text = text.split_once(char::is_whitespace).unwrap().1.trim_start();
        }
        text.to_owned()
    };
    let is_fail = command == "eval_fail" || body.iter().any(|line| line.starts_with("expect fail"));
    let is_ordered = command == "eval_ordered" || body.contains(&"expect ordered");
    let (answer, start_ns, step_ns): (Result<Answer>, i64, i64) = if kind == "instant" {
        let (at, text) = (time(&word(rest, 1)), after(rest, 2));
        (with_context(scan, |context| instant(context, &text, at)), at, 1)
    } else {
        let (from, to, step) = (time(&word(rest, 1)), time(&word(rest, 3)), time(&word(rest, 5)));
        let text = after(rest, 6);
        (with_context(scan, |context| range(context, &text, from, to, step)), from, step)
    };
    let answer = match answer {
        Err(error) if is_fail => {
            let wanted = body.iter().find_map(|line| line.strip_prefix("expect fail msg:")).map(str::trim);
            return match wanted.filter(|wanted| !error.to_string().contains(wanted)) {
                Some(_) => Err(format!("failed otherwise: {error}")),
                None => Ok(()),
            };
        }
        Err(error) => return Err(format!("failed: {error}")),
        Ok(_) if is_fail => return Err("did not fail".to_owned()),
        Ok(answer) => answer,
    };
    let wanted: Vec<&str> = body.iter().copied().filter(|line| !line.starts_with("expect ")).collect();
    match answer.value {
        QueryValue::Scalar { value, .. } => {
            let wanted = sequence(wanted.first().copied().unwrap_or("_")).first().copied().flatten();
            close(wanted, Some(value)).then_some(()).ok_or_else(|| format!("got {value}, wanted {wanted:?}"))
        }
        QueryValue::Text { text, .. } => {
            let wanted = body.iter().find_map(|line| line.strip_prefix("expect string ")).unwrap_or("");
            let wanted = parse(wanted).unwrap().to_string();
            (wanted == format!("{text:?}")).then_some(()).ok_or_else(|| format!("got {text:?}"))
        }
        QueryValue::Vector(samples) => {
            let found = samples.into_iter().map(|sample| (sample.labels, vec![(0, sample.value)])).collect();
            compare(found, &wanted, is_ordered, 1)
        }
        QueryValue::Matrix(series) => {
            let place = |ts_ns: i64| ((ts_ns - start_ns) / step_ns) as usize;
            let series = series.into_iter().map(|series| {
                let points = series.points.into_iter().map(|(ts_ns, sample)| (place(ts_ns), sample));
                (series.labels, points.collect())
            });
            compare(series.collect(), &wanted, is_ordered, usize::MAX)
        }
    }
}

fn compare(
    found: Vec<(Labels, Vec<(usize, Sample)>)>,
    wanted: &[&str],
    is_ordered: bool,
    values_max: usize,
) -> std::result::Result<(), String> {
    let wanted: Vec<(Labels, Vec<Option<f64>>)> = wanted.iter().map(|line| series_line(line)).collect();
    let shown = || format!("got {found:?}\n    wanted {wanted:?}");
    let names = |index: usize| (found.get(index).map(|f| &f.0), wanted.get(index).map(|w| &w.0));
    if found.len() != wanted.len() {
        return Err(shown());
    }
    if is_ordered && (0..found.len()).any(|index| names(index).0 != names(index).1) {
        return Err(shown());
    }
    let by_labels: BTreeMap<&Labels, &Vec<(usize, Sample)>> =
        found.iter().map(|(labels, points)| (labels, points)).collect();
    for (labels, values) in &wanted {
        let Some(points) = by_labels.get(labels) else { return Err(shown()) };
        let at = |index: usize| {
            let point = points.iter().find(|(place, _)| *place == index);
            point.map(|(_, sample)| sample.float().unwrap_or(f64::MIN))
        };
        let values = &values[..values.len().min(values_max)];
        let is_beyond = points.iter().any(|(place, _)| *place >= values.len());
        if is_beyond || values.iter().enumerate().any(|(index, value)| !close(*value, at(index))) {
            return Err(shown());
        }
    }
    Ok(())
}

fn close(wanted: Option<f64>, found: Option<f64>) -> bool {
    match (wanted, found) {
        (Some(wanted), Some(found)) => {
            wanted == found
                || (wanted.is_nan() && found.is_nan())
                || (wanted - found).abs() / (wanted.abs() + found.abs()) < 1e-6
        }
        (None, None) => true,
        _ => false,
    }
}
