//! Reads scripts in Prometheus' test language: `clear`, `load`, `eval instant`, `eval range`.
//!
//! Series `name{...} values` become the measurement `name` with the float field `value`, which may have native histograms
//! among its samples. An instant eval runs as written, as the middle of a short range, and with `@` at five other times.
//! `literals` reads the values.
//!
//! This file is part of the unit tests and of the example `promqltest`; so it uses only what the crate makes public.

use std::collections::BTreeMap;
use std::time::Duration;

use icecore_query::promql::ast::{At, ExprKind, Shift};
use icecore_query::promql::{
    Answer, Context, Expr, HistogramValue, Labels, QueryValue, Sample, instant, parse, parse_selector, range,
};
use icecore_query::{Budget, Limits};
use icecore_storage::model::{STALE_FIELD, SeriesKey, Value, is_stale};
use icecore_storage::scan::Resolution;
use regex::Regex;

use super::VecScan;
use literals::{Family, Given, close, is_near, sequences, stored_hint};

#[path = "literals.rs"]
mod literals;

const MINUTE_NS: i64 = 60_000_000_000;
/// Functions whose value depends on the time of evaluation, not only of the samples.
const TIMED: [&str; 16] = [
    "time",
    "timestamp",
    "predict_linear",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "start",
    "end",
    "range",
    "step",
    "absent_over_time",
];

/// What came out of a script.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Evals that came out as written.
    pub(crate) passed: usize,
    /// The others: line and reason.
    pub(crate) failures: Vec<(usize, String)>,
}

type Outcome<T> = Result<T, String>;
/// Labels and the values of a line; `None`: a gap.
type Line = (Labels, Vec<Option<Given>>);
/// A series of an answer: labels, and values by step.
type Found = (Labels, Vec<(i64, Sample)>);

/// Evaluates a query with the default limits.
pub(crate) fn with_context<T>(scan: &VecScan, ask: impl FnOnce(&Context<'_>) -> T) -> T {
    let budget = Budget::untimed(Limits::default());
    let lookback = Duration::from_secs(300);
    ask(&Context { scan, budget: &budget, lookback, resolution: Resolution::Auto })
}

/// Runs a script.
pub(crate) fn run(text: &str) -> Report {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut runner = Runner::default();
    let mut at = 0;
    while let Some(head) = lines.get(at) {
        let number = at + 1;
        let is_body = |line: &&&str| !line.is_empty() && !is_head(line);
        let body: Vec<&str> = lines.iter().skip(number).take_while(is_body).copied().collect();
        at = number + body.len();
        if head.is_empty() {
            at = number;
            continue;
        }
        runner.block(number, head, &body);
    }
    runner.report
}

fn is_head(line: &str) -> bool {
    line == "clear"
        || ["load ", "load_with_nhcb ", "eval ", "eval_"].iter().any(|word| line.starts_with(word))
}

#[derive(Default)]
struct Runner {
    scan: VecScan,
    report: Report,
}

impl Runner {
    fn block(&mut self, number: usize, head: &str, body: &[&str]) {
        if head == "clear" {
            self.scan = VecScan::default();
            return;
        }
        if let Some(step) = head.strip_prefix("load ").or(head.strip_prefix("load_with_nhcb ")) {
            let mut families = Families::new();
            for (index, line) in body.iter().enumerate() {
                if let Err(reason) = time(step).and_then(|step_ns| self.load(step_ns, line, &mut families)) {
                    self.report.failures.push((number + 1 + index, reason));
                }
            }
            if head.starts_with("load_with_nhcb")
                && let Err(reason) = self.load_families(families)
            {
                self.report.failures.push((number, reason));
            }
            return;
        }
        match Eval::of(head, body) {
            Err(reason) => self.report.failures.push((number, format!("{head}: {reason}"))),
            Ok(eval) => match eval.run(&self.scan) {
                Ok(()) => self.report.passed += 1,
                Err(reason) => self.report.failures.push((number, format!("{head}\n    {reason}"))),
            },
        }
    }

    fn load(&mut self, step_ns: i64, line: &str, families: &mut Families) -> Outcome<()> {
        let (name, values) = split_line(line);
        if values.trim_start().starts_with('@') || name.ends_with("@st") {
            // Times at which counters began: not stored.
            return Ok(());
        }
        let labels = labels_of(name)?;
        let mut before: Option<HistogramValue> = None;
        let times = (0..).map(|index: i64| step_ns * index);
        let key = key_of(&labels)?;
        for (ts_ns, value) in times.zip(sequences(values)?) {
            match value {
                None => {}
                Some(Given::Float(value)) => {
                    before = None;
                    into_family(families, &labels, ts_ns, value);
                    match is_stale(value) {
                        true => self.scan.push(&key, STALE_FIELD, ts_ns, Value::Bool(true)),
                        false => self.scan.push(&key, "value", ts_ns, Value::Float(value)),
                    }
                }
                Some(Given::Histogram(mut literal)) => {
                    let hint = stored_hint(before.as_ref(), &literal.value);
                    before = Some(literal.value.clone());
                    literal.value.hint = hint;
                    self.scan.push_histogram(&key, "value", ts_ns, literal.native());
                }
            }
        }
        Ok(())
    }

    /// Adds the histograms that families of classic buckets are.
    fn load_families(&mut self, families: Families) -> Outcome<()> {
        for (labels, times) in families {
            let key = key_of(&labels)?;
            let mut before: Option<HistogramValue> = None;
            for (ts_ns, family) in times {
                let mut native = family.native();
                native.check().map_err(|error| format!("{labels}: {error}"))?;
                let value = HistogramValue::from(&native);
                native.hint = stored_hint(before.as_ref(), &value);
                before = Some(value);
                self.scan.push_histogram(&key, "value", ts_ns, native);
            }
        }
        Ok(())
    }
}

/// Classic buckets by the labels of their histogram and by time.
type Families = BTreeMap<Labels, BTreeMap<i64, Family>>;

fn key_of(labels: &Labels) -> Outcome<SeriesKey> {
    let tags = labels.iter().filter(|(name, _)| *name != "__name__");
    SeriesKey::new(labels.name(), tags).map_err(|error| error.to_string())
}

/// Takes a sample of `_bucket`, `_count` or `_sum` into its family.
fn into_family(families: &mut Families, labels: &Labels, ts_ns: i64, value: f64) {
    let ending = ["_bucket", "_count", "_sum"].iter().find(|ending| labels.name().ends_with(**ending));
    let Some((ending, base)) = ending.and_then(|ending| Some((*ending, labels.name().strip_suffix(ending)?)))
    else {
        return;
    };
    let upper = labels.get("le").parse::<f64>();
    if ending == "_bucket" && upper.is_err() {
        return;
    }
    let labels = labels.filtered(|name| name != "le").with("__name__", base);
    let family = families.entry(labels).or_default().entry(ts_ns).or_default();
    match (ending, upper) {
        ("_bucket", Ok(upper)) => family.buckets.push((upper, value)),
        ("_count", _) => family.count = Some(value),
        _ => family.sum = value,
    }
}

/// Visits a tree from the top; goes on below a node when the visitor says so.
fn visit(expr: &mut Expr, visitor: &mut dyn FnMut(&mut Expr) -> bool) {
    if !visitor(expr) {
        return;
    }
    match &mut expr.kind {
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Bytes(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => {}
        ExprKind::Subquery { expr, .. } | ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } => {
            visit(expr, visitor);
        }
        ExprKind::Binary(binary) => {
            visit(&mut binary.left, visitor);
            visit(&mut binary.right, visitor);
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.parameter.iter_mut().for_each(|parameter| visit(parameter, visitor));
            visit(&mut aggregate.expr, visitor);
        }
        ExprKind::Call { args, .. } => args.iter_mut().for_each(|arg| visit(arg, visitor)),
    }
}

/// A time or step: a number or duration, negative ones too.
fn time(text: &str) -> Outcome<i64> {
    match parse(text.trim()).map(|expr| expr.kind) {
        Ok(ExprKind::Number { value: seconds, .. }) => Ok((seconds * 1e3).round() as i64 * 1_000_000),
        _ => Err(format!("not a time: {text:?}")),
    }
}

/// Cuts a line into series and values.
fn split_line(line: &str) -> (&str, &str) {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0);
    for (place, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            c if c.is_whitespace() && !quoted && depth == 0 => return line.split_at(place),
            _ => {}
        }
    }
    (line, "")
}

fn labels_of(text: &str) -> Outcome<Labels> {
    let (name, braces) = text.split_at(text.find('{').unwrap_or(text.len()));
    let mut pairs = Vec::new();
    if braces.len() > 2 {
        // A name that surely stands makes any label set a selector.
        let selector = parse_selector(&format!("x{braces}")).or_else(|_| parse_selector(braces));
        let selector = selector.map_err(|error| format!("{text}: {error}"))?;
        pairs.extend(selector.name.filter(|name| name != "x").map(|name| ("__name__".to_owned(), name)));
        pairs.extend(selector.matchers.into_iter().map(|matcher| (matcher.label, matcher.value)));
    }
    if !name.is_empty() {
        pairs.push(("__name__".to_owned(), name.to_owned()));
    }
    Ok(Labels::new(pairs))
}

fn series_line(line: &str) -> Outcome<Line> {
    let (name, values) = split_line(line);
    Ok((labels_of(name)?, sequences(values)?))
}

/// A remark or error that is asked for.
#[derive(Debug)]
enum Wanted {
    Any,
    Text(String),
    Pattern(Regex),
}

impl Wanted {
    fn of(text: &str) -> Outcome<Self> {
        if let Some(text) = text.strip_prefix("msg:") {
            return Ok(Self::Text(text.trim().to_owned()));
        }
        match text.strip_prefix("regex:") {
            Some(pattern) => Regex::new(pattern.trim()).map(Self::Pattern).map_err(|error| error.to_string()),
            None => Ok(Self::Any),
        }
    }

    fn accepts(&self, found: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => found.contains(text),
            Self::Pattern(pattern) => pattern.is_match(found),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Steps {
    start_ns: i64,
    end_ns: i64,
    step_ns: i64,
}

#[derive(Debug)]
struct Eval<'a> {
    /// `None`: instant.
    steps: Option<Steps>,
    at_ns: i64,
    text: &'a str,
    fail: Option<Wanted>,
    warnings: Vec<Wanted>,
    infos: Vec<Wanted>,
    no_warnings: bool,
    no_infos: bool,
    is_ordered: bool,
    string: Option<&'a str>,
    /// Times of the values of an instant query that gives a range vector.
    range: Option<Steps>,
    wanted: Vec<&'a str>,
}

/// Takes the first word of a text.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

/// Reads `from A to B step S`.
fn steps(text: &str) -> Outcome<(Steps, &str)> {
    let mut rest = text;
    let mut times = [0; 3];
    for (slot, name) in times.iter_mut().zip(["from", "to", "step"]) {
        let (found, after) = word(rest);
        if found != name {
            return Err(format!("expected {name:?}, found {found:?}"));
        }
        let (value, after) = word(after);
        (*slot, rest) = (time(value)?, after);
    }
    let [start_ns, end_ns, step_ns] = times;
    Ok((Steps { start_ns, end_ns, step_ns }, rest))
}

impl<'a> Eval<'a> {
    fn of(head: &'a str, body: &[&'a str]) -> Outcome<Self> {
        let (command, rest) = word(head);
        let (kind, rest) = word(rest);
        let (steps, at_ns, text) = if kind == "range" {
            let (steps, text) = steps(rest)?;
            (Some(steps), steps.start_ns, text)
        } else {
            let (at, rest) = word(rest.trim_start().strip_prefix("at").unwrap_or(rest));
            (None, time(at)?, rest)
        };
        let mut eval = Eval {
            steps,
            at_ns,
            text: text.trim(),
            fail: (command == "eval_fail").then_some(Wanted::Any),
            warnings: if command == "eval_warn" { vec![Wanted::Any] } else { Vec::new() },
            infos: if command == "eval_info" { vec![Wanted::Any] } else { Vec::new() },
            no_warnings: false,
            no_infos: false,
            is_ordered: command == "eval_ordered",
            string: None,
            range: None,
            wanted: Vec::new(),
        };
        for line in body {
            eval.line(line)?;
        }
        Ok(eval)
    }

    fn line(&mut self, line: &'a str) -> Outcome<()> {
        let Some(rest) = line.strip_prefix("expect ") else {
            self.wanted.push(line);
            return Ok(());
        };
        let (what, rest) = word(rest);
        match what {
            "fail" => self.fail = Some(Wanted::of(rest.trim())?),
            "warn" => self.warnings.push(Wanted::of(rest.trim())?),
            "info" => self.infos.push(Wanted::of(rest.trim())?),
            "no_warn" => self.no_warnings = true,
            "no_info" => self.no_infos = true,
            "ordered" => self.is_ordered = true,
            "string" => self.string = Some(rest.trim()),
            "range" => self.range = Some(steps(rest.trim().strip_prefix("vector").unwrap_or(rest))?.0),
            _ => return Err(format!("unknown expectation {line:?}")),
        }
        Ok(())
    }

    fn run(&self, scan: &VecScan) -> Outcome<()> {
        let Some(steps) = self.steps else {
            self.instant(scan, self.text, self.at_ns)?;
            for (text, at_ns) in self.fixed() {
                self.instant(scan, &text, at_ns)
                    .map_err(|reason| format!("as {text} at {at_ns} ns: {reason}"))?;
            }
            return Ok(());
        };
        let answer = with_context(scan, |context| {
            range(context, self.text, steps.start_ns, steps.end_ns, steps.step_ns)
        });
        self.judge(answer.map_err(|error| error.to_string()), steps)
    }

    /// As it is, and as the middle of a range.
    fn instant(&self, scan: &VecScan, text: &str, at_ns: i64) -> Outcome<()> {
        let once = Steps { start_ns: at_ns, end_ns: at_ns, step_ns: 1 };
        let answer = with_context(scan, |context| instant(context, text, at_ns));
        self.judge(answer.map_err(|error| error.to_string()), self.range.unwrap_or(once))?;
        let lower = text.to_ascii_lowercase();
        let is_bound = ["start()", "end()", "range()", "step()"].iter().any(|call| lower.contains(call));
        let is_text = self.string.is_some() || self.range.is_some();
        if self.is_ordered || is_text || is_bound || self.fail.is_some() {
            return Ok(());
        }
        let (start_ns, end_ns) = (at_ns - MINUTE_NS, at_ns + MINUTE_NS);
        let answer = with_context(scan, |context| range(context, text, start_ns, end_ns, MINUTE_NS));
        // Other steps may fail or differ; only the middle is compared.
        let Ok(Answer { value: QueryValue::Matrix(mut matrix), .. }) = answer else { return Ok(()) };
        for series in &mut matrix {
            series.points.retain(|(ts_ns, _)| *ts_ns == at_ns);
        }
        matrix.retain(|series| !series.points.is_empty());
        self.values(QueryValue::Matrix(matrix), once).map_err(|reason| format!("within a range: {reason}"))
    }

    /// The query fixed with `@`, to be asked at other times.
    fn fixed(&self) -> Vec<(String, i64)> {
        let Ok(mut expr) = parse(self.text) else { return Vec::new() };
        let mut is_timed = false;
        let at_ns = self.at_ns;
        visit(&mut expr, &mut |node| {
            match &mut node.kind {
                ExprKind::Call { name, .. } => is_timed |= TIMED.contains(name),
                ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
                    fix(&mut selector.shift, at_ns);
                }
                ExprKind::Subquery { shift, .. } => {
                    fix(shift, at_ns);
                    return false;
                }
                _ => {}
            }
            true
        });
        if is_timed || self.fail.is_some() || !self.warnings.is_empty() || !self.infos.is_empty() {
            return Vec::new();
        }
        let times = match at_ns {
            0 => vec![-1_000_000_000, 0, 1_000_000_000],
            _ => vec![-10 * at_ns, 0, at_ns / 5, at_ns, 10 * at_ns],
        };
        times.into_iter().map(|at_ns| (expr.to_string(), at_ns)).collect()
    }

    fn judge(&self, answer: Outcome<Answer>, steps: Steps) -> Outcome<()> {
        let answer = match (answer, &self.fail) {
            (Err(error), Some(wanted)) if wanted.accepts(&error) => return Ok(()),
            (Err(error), Some(wanted)) => return Err(format!("failed with {error}, wanted {wanted:?}")),
            (Err(error), None) => return Err(format!("failed: {error}")),
            (Ok(_), Some(_)) => return Err("did not fail".to_owned()),
            (Ok(answer), None) => answer,
        };
        notes("warning", &answer.warnings, &self.warnings, self.no_warnings)?;
        notes("info", &answer.infos, &self.infos, self.no_infos)?;
        self.values(answer.value, steps)
    }

    fn values(&self, value: QueryValue, steps: Steps) -> Outcome<()> {
        let found: Vec<Found> = match value {
            QueryValue::Scalar { value, .. } => {
                vec![(Labels::default(), vec![(steps.start_ns, Sample::Float(value))])]
            }
            QueryValue::Text { text, .. } => {
                let wanted = self.string.and_then(|wanted| parse(wanted).ok()).map(|expr| expr.kind);
                let is_equal = matches!(&wanted, Some(ExprKind::Text(wanted)) if *wanted == text);
                return is_equal.then_some(()).ok_or_else(|| format!("got {text:?}"));
            }
            QueryValue::Vector(samples) => samples
                .into_iter()
                .map(|sample| (sample.labels, vec![(steps.start_ns, sample.value)]))
                .collect(),
            QueryValue::Matrix(series) => {
                if !series.is_sorted_by(|a, b| a.labels <= b.labels) {
                    return Err("the matrix is not sorted".to_owned());
                }
                series.into_iter().map(|series| (series.labels, series.points)).collect()
            }
        };
        let is_instant = steps.start_ns == steps.end_ns;
        let wanted = self.wanted.iter().map(|line| match sequences(line) {
            // A number alone: a scalar.
            Ok(values) => Ok((Labels::default(), values)),
            Err(_) => series_line(line),
        });
        let mut wanted = wanted.collect::<Outcome<Vec<Line>>>()?;
        wanted.iter_mut().filter(|_| is_instant).for_each(|(_, values)| values.truncate(1));
        compare(&found, &wanted, self.is_ordered, steps).ok_or_else(|| {
            let shown = |lines: Vec<String>| lines.join("\n      ");
            let found = shown(found.iter().map(|(labels, points)| format!("{labels} {points:?}")).collect());
            let wanted =
                shown(wanted.iter().map(|(labels, values)| format!("{labels} {values:?}")).collect());
            format!("got\n      {found}\n    wanted\n      {wanted}")
        })
    }
}

fn fix(shift: &mut Shift, at_ns: i64) {
    shift.at = shift.at.or(Some(At::Time(at_ns)));
}

/// Every remark is wanted by someone and every wish is met; without wishes nothing is compared.
fn notes(kind: &str, found: &[String], wanted: &[Wanted], none: bool) -> Outcome<()> {
    if none && !found.is_empty() {
        return Err(format!("unwanted {kind}: {found:?}"));
    }
    let extra = found.iter().find(|found| !wanted.iter().any(|wanted| wanted.accepts(found)));
    let missing = wanted.iter().find(|wanted| !found.iter().any(|found| wanted.accepts(found)));
    match (extra.filter(|_| !wanted.is_empty()), missing) {
        (Some(extra), _) => Err(format!("another {kind}: {extra}")),
        (None, Some(missing)) => Err(format!("{kind} is missing: {missing:?} among {found:?}")),
        (None, None) => Ok(()),
    }
}

/// `Some` when the answer is as wanted.
fn compare(found: &[Found], wanted: &[Line], is_ordered: bool, steps: Steps) -> Option<()> {
    let wanted: Vec<&Line> = wanted.iter().filter(|(_, values)| values.iter().any(Option::is_some)).collect();
    let same_order = || found.iter().zip(&wanted).all(|(found, wanted)| found.0 == wanted.0);
    if found.len() != wanted.len() || (is_ordered && !same_order()) {
        return None;
    }
    let by_labels: BTreeMap<&Labels, &Vec<(i64, Sample)>> =
        found.iter().map(|(labels, points)| (labels, points)).collect();
    for (labels, values) in wanted {
        let points = *by_labels.get(labels)?;
        let times = (0..).map(|index: i64| steps.start_ns + steps.step_ns * index);
        let wanted: Vec<(i64, &Given)> =
            times.zip(values).filter_map(|(ts_ns, value)| Some((ts_ns, value.as_ref()?))).collect();
        let mut pairs = wanted.iter().zip(points);
        let is_near = pairs.all(|((wanted_ns, wanted), (found_ns, found))| {
            wanted_ns == found_ns && is_sample(wanted, found)
        });
        if wanted.len() != points.len() || !is_near {
            return None;
        }
    }
    Some(())
}

fn is_sample(wanted: &Given, found: &Sample) -> bool {
    match (wanted, found) {
        (Given::Float(wanted), Sample::Float(found)) => close(*wanted, *found),
        (Given::Histogram(wanted), Sample::Histogram(found)) => is_near(wanted, found),
        _ => false,
    }
}
