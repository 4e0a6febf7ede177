//! Which range queries are steady: the points at a step depend on the samples up to that step, and on nothing else of the
//! query's times but the step's width. What was answered for a step then holds for it in any other range, until a sample
//! comes, or goes, that is not younger than the step.

use super::ast::{Binary, BinaryOp, Edge, Expr, ExprKind, Selector, Shift};
use super::functions::{Run, Special, find};
use super::value::NAME_LABEL;

impl Expr {
    /// Whether it is steady, or may be: `@`, a negative offset, `smoothed`, durations that are computed and the functions of
    /// the query's ends make it otherwise, and so do a few mixtures of series with and without the names they will lose.
    pub fn is_steady(&self) -> bool {
        // Series that `or` mixes may be one but for the mark that the name is to go. Where these are joined, all steps
        // lose the name when one does.
        (!self.any(&is_or) || !self.any(&joins_names)) && !self.any(&looks_elsewhere)
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
            let Binary { matching, .. } = &**binary;
            matching.labels.iter().chain(&matching.include).any(is_name)
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
    fn mixtures_that_are_joined_by_name_are_not() {
        for text in [
            "label_replace(m or rate(m[5m]), \"a\", \"$1\", \"b\", \"(.*)\")",
            "sum by (__name__, a) (m or rate(m[5m]))",
        ] {
            check(text, false);
        }
        check("sum by (a) (m or rate(m[5m]))", true);
    }
}
