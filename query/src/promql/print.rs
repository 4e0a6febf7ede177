//! Tree to text, in one canonical form: `parse(print(e))` prints the same again.

use std::fmt::{self, Display, Formatter};

use super::ast::{Aggregate, At, Binary, Cardinality, Edge, Expr, ExprKind, Matcher, Selector, Shift};
use super::number::{format_duration, format_float};

impl Display for Expr {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // A leading plus would be read as a sign, which binds less than `^`.
            ExprKind::Number(value) => out.write_str(format_float(*value).trim_start_matches('+')),
            ExprKind::Text(text) => out.write_str(&quote(text)),
            ExprKind::Bytes(bytes) => out.write_str(&quote_bytes(bytes)),
            ExprKind::Selector(selector) => write!(out, "{selector}"),
            ExprKind::Range { selector, range_ns } => {
                print_selector(out, selector)?;
                write!(out, "[{}]", format_duration(*range_ns))?;
                print_edge(out, selector.edge)?;
                print_shift(out, selector.shift)
            }
            ExprKind::Subquery { expr, range_ns, step_ns, shift } => {
                let step = step_ns.map(format_duration).unwrap_or_default();
                write!(out, "{expr}[{}:{step}]", format_duration(*range_ns))?;
                print_shift(out, *shift)
            }
            ExprKind::Paren(inner) => write!(out, "({inner})"),
            ExprKind::Unary { is_minus, expr } => write!(out, "{}{expr}", if *is_minus { "-" } else { "+" }),
            ExprKind::Binary(binary) => print_binary(out, binary),
            ExprKind::Aggregate(aggregate) => print_aggregate(out, aggregate),
            ExprKind::Call { name, args } => {
                write!(out, "{name}(")?;
                for (index, arg) in args.iter().enumerate() {
                    write!(out, "{}{arg}", if index == 0 { "" } else { ", " })?;
                }
                out.write_str(")")
            }
        }
    }
}

impl Display for Selector {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        print_selector(out, self)?;
        print_edge(out, self.edge)?;
        print_shift(out, self.shift)
    }
}

fn print_edge(out: &mut Formatter<'_>, edge: Edge) -> fmt::Result {
    if edge == Edge::Inside { Ok(()) } else { write!(out, " {}", edge.word()) }
}

fn print_selector(out: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    let plain = selector.name.as_deref().filter(|name| is_metric_name(name));
    let quoted = selector.name.as_deref().filter(|name| !is_metric_name(name));
    out.write_str(plain.unwrap_or_default())?;
    if quoted.is_none() && selector.matchers.is_empty() {
        return Ok(());
    }
    let matchers = selector.matchers.iter().map(print_matcher);
    let parts: Vec<String> = quoted.map(quote).into_iter().chain(matchers).collect();
    write!(out, "{{{}}}", parts.join(","))
}

fn print_matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", print_label(&matcher.label), matcher.op.sign(), quote(&matcher.value))
}

fn print_shift(out: &mut Formatter<'_>, shift: Shift) -> fmt::Result {
    match shift.at {
        Some(At::Time(nanos)) => {
            let millis = nanos / 1_000_000;
            let sign = if millis < 0 { "-" } else { "" };
            write!(out, " @ {sign}{}.{:03}", millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000)?;
        }
        Some(At::Start) => out.write_str(" @ start()")?,
        Some(At::End) => out.write_str(" @ end()")?,
        None => {}
    }
    if shift.offset_ns != 0 {
        write!(out, " offset {}", format_duration(shift.offset_ns))?;
    }
    Ok(())
}

fn print_binary(out: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    write!(out, "{} {}", binary.left, binary.op.sign())?;
    if binary.is_bool {
        out.write_str(" bool")?;
    }
    let matching = &binary.matching;
    if matching.is_explicit {
        let word = if matching.is_on { "on" } else { "ignoring" };
        write!(out, " {word} ({})", print_labels(&matching.labels))?;
    }
    let group = match matching.cardinality {
        Cardinality::OneToOne => None,
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
    };
    if let Some(group) = group {
        write!(out, " {group} ({})", print_labels(&matching.include))?;
    }
    write!(out, " {}", binary.right)
}

fn print_aggregate(out: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    out.write_str(aggregate.op.name())?;
    if aggregate.is_without || !aggregate.grouping.is_empty() {
        let word = if aggregate.is_without { "without" } else { "by" };
        write!(out, " {word} ({}) ", print_labels(&aggregate.grouping))?;
    }
    match &aggregate.parameter {
        Some(parameter) => write!(out, "({parameter}, {})", aggregate.expr),
        None => write!(out, "({})", aggregate.expr),
    }
}

fn print_labels(labels: &[String]) -> String {
    labels.iter().map(|label| print_label(label)).collect::<Vec<_>>().join(", ")
}

fn print_label(label: &str) -> String {
    // Inf and NaN would be read as numbers in a list of labels.
    let is_word = label.eq_ignore_ascii_case("inf") || label.eq_ignore_ascii_case("nan");
    if is_metric_name(label) && !label.contains(':') && !is_word { label.to_owned() } else { quote(label) }
}

fn is_metric_name(name: &str) -> bool {
    let mut chars = name.chars();
    let is_first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':');
    is_first
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        && !name.eq_ignore_ascii_case("inf")
        && !name.eq_ignore_ascii_case("nan")
}

/// Quotes a string that is not UTF-8 so that the lexer reads it back.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from('"');
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

/// Quotes a text so that the lexer reads it back.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
