//! Tree to text: on one line in a canonical form, and over lines where it is long ([`pretty`]). Both read back as the
//! same tree: `parse(print(e))` prints the same again. Recursion is bounded by the height of the tree.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{
    Aggregate, At, Binary, Cardinality, Computed, Duration, Edge, Expr, ExprKind, Matcher, Selector, Shift,
};
use super::number::{format_duration, format_float};
use super::value::NAME_LABEL;

/// Bytes of a line above which it is broken, as Prometheus does.
const LINE_BYTES_MAX: usize = 100;

impl Display for Expr {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, is_duration } => print_number(out, *value, *is_duration),
            ExprKind::Text(text) => out.write_str(&quote(text)),
            ExprKind::Bytes(bytes) => out.write_str(&quote_bytes(bytes)),
            ExprKind::Selector(selector) => write!(out, "{selector}"),
            ExprKind::Range { selector, range_ns } => {
                let computed = selector.computed.as_deref();
                print_selector(out, selector)?;
                write!(out, "[{}]", span(*range_ns, computed.and_then(|computed| computed.range.as_ref())))?;
                print_edge(out, selector.edge)?;
                print_shift(out, selector.shift, computed)
            }
            ExprKind::Subquery { expr, .. } => {
                write!(out, "{expr}")?;
                print_subquery_end(out, self)
            }
            ExprKind::Paren(inner) => write!(out, "({inner})"),
            ExprKind::Unary { is_minus, expr } => write!(out, "{}{expr}", sign(*is_minus)),
            ExprKind::Binary(binary) => {
                write!(out, "{} {} {}", binary.left, binary_operator(binary), binary.right)
            }
            ExprKind::Aggregate(aggregate) => {
                out.write_str(&aggregate_head(aggregate))?;
                match &aggregate.parameter {
                    Some(parameter) => write!(out, "({parameter}, {})", aggregate.expr),
                    None => write!(out, "({})", aggregate.expr),
                }
            }
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

/// Writes an expression over several lines where it is longer than a line, as Prometheus formats queries.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0);
    out
}

fn write_pretty(out: &mut String, expr: &Expr, level: usize) {
    let line = expr.to_string();
    let indent = "  ".repeat(level);
    if line.len() <= LINE_BYTES_MAX {
        out.push_str(&indent);
        out.push_str(&line);
        return;
    }
    match &expr.kind {
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Bytes(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => {
            out.push_str(&indent);
            out.push_str(&line);
        }
        ExprKind::Subquery { expr: inner, .. } => {
            write_pretty(out, inner, level);
            out.push_str(&subquery_end(expr));
        }
        ExprKind::Paren(inner) => write_block(out, &indent, "", [&**inner], level),
        ExprKind::Unary { is_minus, expr: inner } => {
            let mut child = String::new();
            write_pretty(&mut child, inner, level);
            out.push_str(&indent);
            out.push_str(sign(*is_minus));
            out.push_str(child.trim());
        }
        ExprKind::Binary(binary) => {
            write_pretty(out, &binary.left, level + 1);
            out.push_str(&format!("\n{indent}{}\n", binary_operator(binary)));
            write_pretty(out, &binary.right, level + 1);
        }
        ExprKind::Aggregate(aggregate) => {
            let args = aggregate.parameter.iter().chain([&aggregate.expr]);
            write_block(out, &indent, &aggregate_head(aggregate), args, level);
        }
        ExprKind::Call { name, args } => write_block(out, &indent, name, args, level),
    }
}

/// Writes expressions in parentheses, each on a line of its own.
fn write_block<'a>(
    out: &mut String,
    indent: &str,
    head: &str,
    args: impl IntoIterator<Item = &'a Expr>,
    level: usize,
) {
    out.push_str(&format!("{indent}{head}("));
    for (index, arg) in args.into_iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        write_pretty(out, arg, level + 1);
    }
    out.push_str(&format!("\n{indent})"));
}

fn sign(is_minus: bool) -> &'static str {
    if is_minus { "-" } else { "+" }
}

fn print_number(out: &mut Formatter<'_>, value: f64, is_duration: bool) -> fmt::Result {
    if is_duration {
        // A zero keeps its sign, which no count of milliseconds has.
        if value == 0.0 && value.is_sign_negative() {
            return out.write_str("-0s");
        }
        // Durations are whole milliseconds within the reach of i64.
        return out.write_str(&format_duration(((value * 1e3).round() as i64).saturating_mul(1_000_000)));
    }
    // A leading plus would be read as a sign, which binds less than `^`.
    out.write_str(format_float(value).trim_start_matches('+'))
}

/// A duration: what it was written as, or its nanoseconds.
fn span(nanos: i64, computed: Option<&Duration>) -> String {
    computed.map_or_else(|| format_duration(nanos), Duration::to_string)
}

fn subquery_end(expr: &Expr) -> String {
    struct End<'a>(&'a Expr);
    impl Display for End<'_> {
        fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
            print_subquery_end(out, self.0)
        }
    }
    End(expr).to_string()
}

fn print_subquery_end(out: &mut Formatter<'_>, expr: &Expr) -> fmt::Result {
    let ExprKind::Subquery { range_ns, step_ns, shift, computed, .. } = &expr.kind else { return Ok(()) };
    let computed = computed.as_deref();
    let range = span(*range_ns, computed.and_then(|computed| computed.range.as_ref()));
    let step = step_ns.map(|step| span(step, computed.and_then(|computed| computed.step.as_ref())));
    write!(out, "[{range}:{}]", step.unwrap_or_default())?;
    print_shift(out, *shift, computed)
}

impl Display for Selector {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        print_selector(out, self)?;
        print_edge(out, self.edge)?;
        print_shift(out, self.shift, self.computed.as_deref())
    }
}

fn print_edge(out: &mut Formatter<'_>, edge: Edge) -> fmt::Result {
    if edge == Edge::Inside { Ok(()) } else { write!(out, " {}", edge.word()) }
}

fn print_selector(out: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    // Before the braces a name stands alone, without patterns for it within them.
    let is_alone = selector.matchers.iter().all(|matcher| matcher.label != NAME_LABEL);
    let can_be_plain = |name: &&str| is_alone && is_metric_name(name);
    let plain = selector.name.as_deref().filter(can_be_plain);
    let quoted = selector.name.as_deref().filter(|name| !can_be_plain(name));
    out.write_str(plain.unwrap_or_default())?;
    if plain.is_some() && selector.matchers.is_empty() {
        return Ok(());
    }
    let mut matchers: Vec<String> = selector.matchers.iter().map(print_matcher).collect();
    matchers.sort();
    let parts: Vec<String> = quoted.map(quote).into_iter().chain(matchers).collect();
    write!(out, "{{{}}}", parts.join(","))
}

fn print_matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", print_label(&matcher.label), matcher.op.sign(), quote(&matcher.value))
}

fn print_shift(out: &mut Formatter<'_>, shift: Shift, computed: Option<&Computed>) -> fmt::Result {
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
    match computed.and_then(|computed| computed.offset.as_ref()) {
        Some(offset) => write!(out, " offset {offset}"),
        None if shift.offset_ns != 0 => write!(out, " offset {}", format_duration(shift.offset_ns)),
        None => Ok(()),
    }
}

/// The operator with all that is said of how both sides meet.
fn binary_operator(binary: &Binary) -> String {
    let mut out = binary.op.sign().to_owned();
    if binary.is_bool {
        out.push_str(" bool");
    }
    let matching = &binary.matching;
    let group = match matching.cardinality {
        Cardinality::OneToOne => None,
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
    };
    if matching.is_on || !matching.labels.is_empty() || group.is_some() {
        let word = if matching.is_on { "on" } else { "ignoring" };
        _ = write!(out, " {word} ({})", print_labels(&matching.labels));
    }
    if let Some(group) = group {
        _ = write!(out, " {group} ({})", print_labels(&matching.include));
    }
    let fill = matching.fill;
    let number = |value: f64| format_float(value).trim_start_matches('+').to_owned();
    match (fill.left, fill.right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            _ = write!(out, " fill ({})", number(left));
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    _ = write!(out, " {word} ({})", number(value));
                }
            }
        }
    }
    out
}

/// An aggregation up to its parentheses.
fn aggregate_head(aggregate: &Aggregate) -> String {
    let name = aggregate.op.name();
    if !aggregate.is_without && aggregate.grouping.is_empty() {
        return name.to_owned();
    }
    let word = if aggregate.is_without { "without" } else { "by" };
    format!("{name} {word} ({}) ", print_labels(&aggregate.grouping))
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
