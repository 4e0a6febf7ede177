//! `icecore query`: one question, to a server or a data directory, as a table, CSV or JSON. Both sides print the
//! same.

use icecore_query::select::{self, Table};

use super::print::{Grid, answer_grid, histogram_text, table_grids};
use super::remote::Remote;
use super::{Ended, Target, complain, say};
use crate::database::QueryOptions;
use crate::databases::DEFAULT_DATABASE;
use crate::http::{AnswerForm, Epoch, TableForm, answer_json, parse_time, results_json, table_csv};
use crate::{Config, Error};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

/// Flags of `icecore query`.
#[derive(Debug, clap::Args)]
pub(super) struct QueryArgs {
    /// PromQL, or a statement: SELECT ..., SHOW ... or CREATE DATABASE ...
    text: String,
    #[command(flatten)]
    target: Target,
    /// The database.
    #[arg(long, default_value = DEFAULT_DATABASE)]
    db: String,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// When PromQL is evaluated: RFC 3339 or unix seconds; now when not given. A statement has its times in WHERE.
    #[arg(long)]
    time: Option<String>,
}

pub(super) fn run(args: &QueryArgs) -> Result<(), Ended> {
    let time_ns = match &args.time {
        Some(text) => Some(
            parse_time(text)
                .ok_or_else(|| Ended::usage(format!("--time {text}: neither RFC 3339 nor unix seconds")))?,
        ),
        None => None,
    };
    if time_ns.is_some() && is_statement(&args.text) {
        return Err(Ended::usage("--time is for PromQL; a statement says `WHERE time > ...`"));
    }
    match args.target.url() {
        Some(url) => ask_server(args, url),
        None => ask_directory(args, time_ns),
    }
}

/// Whether a text is a statement rather than PromQL.
fn is_statement(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let has_more = words.next().is_some();
    has_more && ["select", "show", "create"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

fn ask_directory(args: &QueryArgs, time_ns: Option<i64>) -> Result<(), Ended> {
    let dir = args.target.data_dir.clone().unwrap_or_default();
    // A question must not make a directory.
    if !dir.join("ICECORE").exists() {
        return Err(Ended::usage(format!("{} is not an icecore data directory", dir.display())));
    }
    let databases = super::open_directory(&dir, Config::default())?;
    let database = databases.get(&args.db);
    let database = database.ok_or_else(|| Ended::failed(format!("database not found: {:?}", args.db)))?;
    if is_statement(&args.text) {
        let query = database.query(QueryOptions::default());
        for statement in select::parse(&args.text).map_err(Error::from)? {
            let new = databases.config().new_database();
            print_table(args, databases.run_statement(&query, &statement, Some(&args.db), &new)?);
        }
    } else {
        let time_ns = time_ns.unwrap_or_else(|| database.now_ns());
        let answer = database.promql(&args.text, time_ns)?;
        for notice in answer.warnings.iter().chain(&answer.infos) {
            complain(format_args!("note: {notice}"));
        }
        match args.format {
            Format::Table => say_grids(&args.text, &[answer_grid(&answer)]),
            Format::Csv => say(answer_grid(&answer).csv().trim_end()),
            Format::Json => {
                say(String::from_utf8_lossy(&answer_json(&answer, AnswerForm::default())).trim_end())
            }
        }
    }
    databases.close()?;
    Ok(())
}

fn print_table(args: &QueryArgs, table: Table) {
    for message in &table.messages {
        complain(format_args!("note: {message}"));
    }
    match args.format {
        Format::Table => say_grids(&args.text, &table_grids(&table)),
        Format::Csv => {
            let mut out = Vec::new();
            table_csv(&mut out, &Ok(table), Epoch::Text);
            say(String::from_utf8_lossy(&out).trim_end());
        }
        Format::Json => {
            let form = TableForm { epoch: Epoch::Text, with_coverage: false };
            say(String::from_utf8_lossy(&results_json(&[Ok(table)], form)).trim_end());
        }
    }
}

fn ask_server(args: &QueryArgs, url: &str) -> Result<(), Ended> {
    let remote = Remote::new(url)?;
    let is_statement = is_statement(&args.text);
    let mut params =
        vec![(if is_statement { "q" } else { "query" }, args.text.as_str()), ("db", args.db.as_str())];
    if let Some(time) = &args.time {
        params.push(("time", time));
    }
    if is_statement {
        params.push(("epoch", "rfc3339"));
    }
    let is_csv = is_statement && args.format == Format::Csv;
    let accept = if is_csv { "application/csv" } else { "application/json" };
    let reply = remote.ask(if is_statement { "/query" } else { "/api/v1/query" }, &params, accept)?;
    if reply.status != 200 {
        return Err(Ended::failed(reply.error()));
    }
    if is_csv {
        // How a failed statement looks in CSV.
        if let Some(error) = reply.body.strip_prefix("error\n") {
            return Err(Ended::failed(error.trim_end()));
        }
        say(reply.body.trim_end());
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_str(&reply.body)
        .map_err(|error| Ended::failed(format!("{url} did not answer JSON: {error}")))?;
    let grids = if is_statement { results_grids(&value)? } else { data_grids(&value) };
    if args.format == Format::Json {
        say(reply.body.trim_end());
        return Ok(());
    }
    if args.format == Format::Csv {
        say(grids.iter().map(Grid::csv).collect::<String>().trim_end());
    } else {
        say_grids(&args.text, &grids);
    }
    for notice in ["warnings", "infos"].iter().filter_map(|name| value.get(name)?.as_array()).flatten() {
        complain(format_args!("note: {}", plain(notice)));
    }
    Ok(())
}

/// Prints an aligned answer. One without rows says so: silence could also be a mistyped name.
fn say_grids(question: &str, grids: &[Grid]) {
    if grids.iter().all(|grid| grid.rows.is_empty()) {
        let is_order =
            question.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("create"));
        complain(if is_order { "done" } else { "note: no rows" });
        return;
    }
    let texts: Vec<String> = grids.iter().map(Grid::aligned).collect();
    say(texts.join("\n").trim_end());
}

/// A JSON value as the text of a cell.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn items<'a>(value: &'a serde_json::Value, name: &str) -> impl Iterator<Item = &'a serde_json::Value> {
    value.get(name).and_then(serde_json::Value::as_array).into_iter().flatten()
}

fn results_grids(value: &serde_json::Value) -> Result<Vec<Grid>, Ended> {
    let mut grids = Vec::new();
    for result in items(value, "results") {
        if let Some(error) = result.get("error") {
            return Err(Ended::failed(plain(error)));
        }
        for message in items(result, "messages") {
            complain(format_args!("note: {}", message.get("text").map(plain).unwrap_or_default()));
        }
        for series in items(result, "series") {
            let mut title = series.get("name").map(plain).unwrap_or_default();
            for (key, value) in
                series.get("tags").and_then(serde_json::Value::as_object).into_iter().flatten()
            {
                title.push_str(&format!(" {key}={}", plain(value)));
            }
            let columns = items(series, "columns").map(plain).collect();
            let rows = items(series, "values");
            let rows = rows.map(|row| row.as_array().into_iter().flatten().map(plain).collect()).collect();
            grids.push(Grid { title, columns, rows });
        }
    }
    Ok(grids)
}

fn data_grids(value: &serde_json::Value) -> Vec<Grid> {
    let mut rows = Vec::new();
    let data = value.get("data").unwrap_or(value);
    let is_single =
        matches!(data.get("resultType").and_then(serde_json::Value::as_str), Some("scalar" | "string"));
    if is_single {
        rows.push(sample_row(String::new(), data.get("result")));
    } else {
        for series in items(data, "result") {
            let name = metric_text(series.get("metric"));
            let single = series.get("value").or_else(|| series.get("histogram"));
            let several = items(series, "values").chain(items(series, "histograms"));
            rows.extend(single.into_iter().chain(several).map(|point| sample_row(name.clone(), Some(point))));
        }
    }
    let columns = ["series", "time", "value"].map(str::to_owned).to_vec();
    vec![Grid { title: String::new(), columns, rows }]
}

fn sample_row(name: String, point: Option<&serde_json::Value>) -> Vec<String> {
    let part = |index: usize| point.and_then(|point| point.get(index)).map(plain).unwrap_or_default();
    let time = part(0);
    let time = parse_time(&time).map_or(time, crate::http::rfc3339);
    let value = match point.and_then(|point| point.get(1)) {
        Some(histogram @ serde_json::Value::Object(_)) => {
            let part = |name: &str| histogram.get(name).map(plain).unwrap_or_default();
            histogram_text(&part("count"), &part("sum"))
        }
        _ => part(1),
    };
    vec![name, time, value]
}

fn metric_text(metric: Option<&serde_json::Value>) -> String {
    let labels = metric.and_then(serde_json::Value::as_object);
    let name = labels.and_then(|labels| labels.get("__name__")).map(plain).unwrap_or_default();
    let others = labels.into_iter().flatten().filter(|(key, _)| *key != "__name__");
    let others: Vec<String> = others.map(|(key, value)| format!("{key}={:?}", plain(value))).collect();
    format!("{name}{{{}}}", others.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_from_promql() {
        for text in ["SELECT * FROM x", " show databases", "select\nx from y", "CREATE DATABASE shop"] {
            assert!(is_statement(text), "{text}");
        }
        for text in ["sum(x)", "select", "selected + 1", "rate(show[5m])"] {
            assert!(!is_statement(text), "{text}");
        }
    }

    #[test]
    fn grids_are_read_from_both_dialects() {
        let value = serde_json::json!({"data": {"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "2"]}]}});
        let rows = &data_grids(&value).pop().unwrap().rows;
        assert_eq!(rows, &[["up{job=\"a\"}", "1970-01-01T00:00:01.5Z", "2"]]);
        let value = serde_json::json!({"results": [{"statement_id": 0, "series": [
            {"name": "cpu", "tags": {"h": "a"}, "columns": ["time", "n"], "values": [["t", null]]}]}]});
        let grid = results_grids(&value).unwrap().pop().unwrap();
        assert_eq!((grid.title.as_str(), grid.rows), ("cpu h=a", vec![vec!["t".to_owned(), String::new()]]));
    }
}
