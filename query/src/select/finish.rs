//! From the rows of a group to those of the answer: transformations, HAVING, order and page.

use std::cmp::Ordering;

use icecore_storage::model::TimeRange;

use super::TableSeries;
use super::analyze::{Columns, Plan};
use super::ast::{Argument, Expr, Interval, NameKind, Order, Select};
use super::node::{Node, Row};
use super::scalar::{Cell, order_cells};
use crate::{Error, ErrorKind, Result};

/// What is done with the rows of each group.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    select: &'a Select,
    /// On the columns as calls; the first is the time.
    having: Option<Node>,
    /// The column to order by, where it is not the time.
    order_place: Option<usize>,
}

impl<'a> Finish<'a> {
    /// Finds the columns that HAVING and ORDER BY name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is no column of the answer.
    pub(crate) fn of(select: &'a Select, columns: &Columns) -> Result<Self> {
        let place_of = |name: &str, clause: &str| {
            let place = columns.names.iter().position(|column| column == name);
            place.ok_or_else(|| {
                let known = columns.names.join(", ");
                let message = format!("{clause} {name}: no such column in the answer; there are {known}");
                Error::new(ErrorKind::InvalidInput, message)
            })
        };
        // A function is the column that is the same, and else the one of its name.
        let having_place = |expr: &Expr, name: &str| {
            let same = columns.exprs.iter().position(|column| is_same(column, expr));
            same.map_or_else(|| place_of(name, "HAVING"), |place| Ok(place + 1))
        };
        let having = select.having.as_ref().map(|having| on_columns(having, &having_place));
        let order_place = select.order_column.as_deref().map(|name| place_of(name, "ORDER BY"));
        Ok(Self { select, having: having.transpose()?, order_place: order_place.transpose()? })
    }

    /// Whether rows can be read in the order and page asked for, with nothing left to do.
    pub(crate) fn is_nothing(&self, plan: &Plan<'_>) -> bool {
        self.having.is_none() && self.order_place.is_none() && plan.stages.is_none()
    }

    /// The rows of the answer from ascending rows of the range and of buckets before it.
    pub(crate) fn rows(
        &self,
        plan: &Plan<'_>,
        mut rows: Vec<Vec<Cell>>,
        (range, interval): (TimeRange, Option<Interval>),
    ) -> Vec<Vec<Cell>> {
        if let Some(stages) = &plan.stages {
            rows = stages.rows(rows, interval);
            rows.retain(|row| matches!(row.first(), Some(Cell::Time(ts_ns)) if range.start_ns <= *ts_ns));
        }
        if let Some(having) = &self.having {
            rows.retain(|row| having.holds(&Row { calls: row, ..Row::default() }));
        }
        match self.order_place {
            Some(place) => rows.sort_by(|left, right| self.order_of(left.get(place), right.get(place))),
            None if self.select.order == Order::Descending => rows.reverse(),
            None => {}
        }
        self.select.page.cut(rows)
    }

    /// The page of series, which come by name and tags, in their order: that of their first rows where rows are not
    /// ordered by time, and backwards where time is. SLIMIT counts by name and tags in the latter case, as in InfluxDB.
    pub(crate) fn series(&self, mut series: Vec<TableSeries>) -> Vec<TableSeries> {
        let Some(place) = self.order_place else {
            series = self.select.series_page.cut(series);
            if self.select.order == Order::Descending {
                series.reverse();
            }
            return series;
        };
        series.sort_by(|left, right| self.order_of(first_cell(left, place), first_cell(right, place)));
        self.select.series_page.cut(series)
    }

    /// What is empty comes last, in either direction.
    fn order_of(&self, left: Option<&Cell>, right: Option<&Cell>) -> Ordering {
        let is_empty = |cell: Option<&Cell>| matches!(cell, None | Some(Cell::Null));
        match (left, right) {
            (Some(left), Some(right)) if !is_empty(Some(left)) && !is_empty(Some(right)) => {
                let order = order_cells(left, right);
                if self.select.order == Order::Descending { order.reverse() } else { order }
            }
            _ => is_empty(left).cmp(&is_empty(right)),
        }
    }
}

/// The cell of a column in the first row.
fn first_cell(series: &TableSeries, place: usize) -> Option<&Cell> {
    series.rows.first()?.get(place)
}

/// A condition on the columns of the answer; a call stands for the column of its name.
fn on_columns(expr: &Expr, place_of: &dyn Fn(&Expr, &str) -> Result<usize>) -> Result<Node> {
    let all =
        |parts: &[Expr]| parts.iter().map(|part| on_columns(part, place_of)).collect::<Result<Vec<_>>>();
    let boxed = |expr: &Expr| on_columns(expr, place_of).map(Box::new);
    let cell = |expr: &Expr| match expr {
        Expr::Text(text) => Some(Cell::Text(text.clone())),
        Expr::Integer(value) | Expr::Duration(value) => Some(Cell::Int(*value)),
        Expr::Float(value) => Some(Cell::Float(*value)),
        Expr::Bool(value) => Some(Cell::Bool(*value)),
        _ => None,
    };
    Ok(match expr {
        _ if expr.is_time() => {
            let message = "HAVING tests columns of the answer; bounds of time stand in WHERE";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Expr::Name(name) if name.kind == NameKind::Any => Node::Call(place_of(expr, &name.text)?),
        Expr::Call(call) => Node::Call(place_of(expr, &call.name)?),
        Expr::Transform { name, .. } | Expr::Math { name, .. } => Node::Call(place_of(expr, name)?),
        Expr::Arith { first, rest } => Node::Arith {
            first: boxed(first)?,
            rest: rest
                .iter()
                .map(|(op, operand)| Ok((*op, on_columns(operand, place_of)?)))
                .collect::<Result<_>>()?,
        },
        Expr::Compare { op, left, right } => {
            Node::Compare { op: *op, left: boxed(left)?, right: boxed(right)? }
        }
        Expr::Match { left, regex, is_negated } => {
            Node::Match { left: boxed(left)?, regex: regex.clone(), is_negated: *is_negated }
        }
        Expr::In { left, list, is_negated } => Node::In {
            left: boxed(left)?,
            list: list.iter().map(|entry| cell(entry).unwrap_or(Cell::Null)).collect(),
            is_negated: *is_negated,
        },
        Expr::All(parts) => Node::All(all(parts)?),
        Expr::Any(parts) => Node::Any(all(parts)?),
        Expr::Not(inner) => Node::Not(boxed(inner)?),
        other => match cell(other) {
            Some(cell) => Node::Const(cell),
            None => {
                let message = "HAVING compares columns of the answer with numbers, texts and booleans";
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        },
    })
}

/// Whether two expressions say the same; never of those with patterns.
fn is_same(one: &Expr, other: &Expr) -> bool {
    match (one, other) {
        (Expr::Name(one), Expr::Name(other)) => one.text == other.text,
        (Expr::Integer(one), Expr::Integer(other)) => one == other,
        (Expr::Float(one), Expr::Float(other)) => one == other,
        (Expr::Call(one), Expr::Call(other)) => match (&one.argument, &other.argument) {
            (Argument::Name(field), Argument::Name(beside)) => {
                one.function == other.function && one.by == other.by && field.text == beside.text
            }
            _ => false,
        },
        (Expr::Transform { function, of, .. }, Expr::Transform { function: beside, of: other, .. }) => {
            function == beside && is_same(of, other)
        }
        (Expr::Math { function, args, .. }, Expr::Math { function: beside, args: others, .. }) => {
            let mut pairs = args.iter().zip(others);
            function == beside && args.len() == others.len() && pairs.all(|(one, other)| is_same(one, other))
        }
        _ => false,
    }
}
