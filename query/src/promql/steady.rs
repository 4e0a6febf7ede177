//! Which range queries are steady: the points at a step depend on the samples up to that step, and on nothing else of the
//! query's times but the step's width. What was answered for a step then holds for it in any other range, until a sample
//! comes, or goes, that is not younger than the step.

use super::ast::{AggregateOp, Binary, BinaryOp, Edge, Expr, ExprKind, Selector, Shift};
use super::functions::{Run, Special, find};
use super::value::NAME_LABEL;

impl Expr {
    /// Whether it is steady, or may be: `@`, a negative offset, `smoothed`, durations that are computed and the functions of
    /// the query's ends make it otherwise, and so do functions that sort (at one time they do more than over a range), choices
    /// among series whose order comes from what else there is, and a few mixtures of series with and without the names
    /// they will lose.
    pub fn is_steady(&self) -> bool {
        // Series that `or` mixes may be one but for the mark that the name is to go. Where these are joined, all steps
        // lose the name when one does.
        (!self.any(&is_or) || !self.any(&joins_names))
            && !self.any(&looks_elsewhere)
            && !self.any(&sorts)
            && !self.any(&chooses_by_place)
    }
}

fn sorts(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { name, .. } => find(name).is_some_and(|function| {
            use Special::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
            matches!(function.run, Run::Special(Sort | SortDesc | SortByLabel | SortByLabelDesc))
        }),
        _ => false,
    }
}

/// Whether a node chooses series, where the places of these decide, among some that are not ordered by their labels.
fn chooses_by_place(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => is_choice(aggregate.op) && aggregate.expr.any(&is_unordered),
        _ => false,
    }
}

fn is_choice(op: AggregateOp) -> bool {
    matches!(op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio)
}

/// Whether the series of a node may come in another order than that of their labels.
fn is_unordered(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Binary(binary) => !is_number(&binary.left) && !is_number(&binary.right),
        ExprKind::Aggregate(aggregate) => is_choice(aggregate.op) || aggregate.op == AggregateOp::CountValues,
        ExprKind::Call { .. } => joins_names(expr),
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number { .. } => true,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => is_number(inner),
        _ => false,
    }
}

fn is_or(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Binary(binary) if binary.op == BinaryOp::Or || !binary.matching.fill.is_empty())
}

fn joins_names(expr: &Expr) -> bool {
    let is_name = |label: &String| label == NAME_LABEL;
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => aggregate.grouping.iter().any(is_name),
        ExprKind::Binary(binary) => {
            let Binary { matching, left, right, op, .. } = &**binary;
            // A comparison may keep the name.
            let compares = op.is_comparison() && !is_number(left) && !is_number(right);
            compares || matching.labels.iter().chain(&matching.include).any(is_name)
        }
        ExprKind::Call { name, .. } => find(name).is_some_and(|function| {
            matches!(function.run, Run::Special(Special::LabelReplace | Special::LabelJoin | Special::Info))
        }),
        _ => false,
    }
}

/// Whether a node, without those below it, looks at anything but the samples up to its time.
fn looks_elsewhere(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            let Selector { shift, edge, computed, .. } = selector;
            is_elsewhere(*shift) || *edge == Edge::Smoothed || computed.is_some()
        }
        ExprKind::Subquery { shift, computed, .. } => is_elsewhere(*shift) || computed.is_some(),
        ExprKind::Call { name, .. } => find(name).is_none_or(|function| {
            matches!(function.run, Run::Special(Special::Start | Special::End | Special::Range))
        }),
        _ => false,
    }
}

fn is_elsewhere(shift: Shift) -> bool {
    shift.at.is_some() || shift.offset_ns < 0
}

#[cfg(test)]
mod tests {
    use crate::promql::parse;

    #[track_caller]
    fn check(text: &str, is_steady: bool) {
        assert_eq!(parse(text).unwrap().is_steady(), is_steady, "{text}");
    }

    #[test]
    fn what_looks_back_is_steady() {
        for text in [
            "m",
            "sum by (a) (rate(m{b=\"c\"}[5m] offset 1h))",
            "max_over_time(rate(m[5m])[1h:1m]) / on (a) group_left () n",
            "rate(m[5m] anchored)",
            "topk(3, m) or vector(time()) * step()",
            "m offset -0s",
            "label_replace(m, \"a\", \"$1\", \"b\", \"(.*)\")",
            "sum by (__name__) (m)",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn what_looks_elsewhere_is_not() {
        for text in [
            "m @ 100",
            "m @ start()",
            "sum_over_time(m[5m] @ end())",
            "m offset -5m",
            "max_over_time((m offset -1s)[1h:1m])",
            "max_over_time(m[1h:1m] offset -1m)",
            "max_over_time(m[1h:1m] @ 5)",
            "m smoothed",
            "rate(m[5m] smoothed)",
            "rate(m[range()])",
            "m offset (step() * 2)",
            "sum(m) + start()",
            "scalar(n) - end()",
            "topk(range(), m)",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn what_goes_by_the_order_of_series_is_not() {
        for text in [
            "sort(m)",
            "limitk(1, sort_desc(m))",
            "limitk(1, topk(3, m))",
            "topk(1, a / b)",
            "topk(1, (m > 5) or m)",
            "limitk(2, count_values(\"v\", m))",
            "bottomk(1, label_replace(m, \"a\", \"$1\", \"b\", \"(.*)\"))",
        ] {
            check(text, false);
        }
        for text in
            ["topk(3, sum by (a) (rate(m[5m])))", "topk(3, -m * 2)", "limitk(2, m > 5)", "topk(1, m) / n"]
        {
            check(text, true);
        }
    }

    #[test]
    fn mixtures_that_are_joined_by_name_are_not() {
        for text in [
            "label_replace(m or rate(m[5m]), \"a\", \"$1\", \"b\", \"(.*)\")",
            "sum by (__name__, a) (m or rate(m[5m]))",
            "(m or rate(m[10m])) > ignoring (x) n",
        ] {
            check(text, false);
        }
        check("sum by (a) (m or rate(m[5m]))", true);
    }
}
