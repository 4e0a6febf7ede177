//! Transformations: what is calculated from the values of a column one after the other.
//!
//! A SELECT with transformations is read in two stages. The first gives the rows of each group, ascending, of what
//! transformations are taken of and of what stands beside them, as a SELECT of these alone would; the second, here, goes
//! over the rows and calculates the columns. Order of events: [`split`], the first stage, [`Stages::rows`].

use std::collections::VecDeque;

use icecore_storage::model::SECOND_NS;

use super::ast::{Arith, Interval, Transform};
use super::node::{BoundTransform, Node, Row};
use super::scalar::{Cell, Scalar, arith};

/// The second stage.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Each transformation, and the cell of the first stage that it is taken of.
    transforms: Vec<(Transform, usize)>,
    /// The columns: calls in them are transformations, then cells of the first stage.
    items: Vec<Node>,
    /// Whether a column is there in every row, although it may be empty: one beside the transformations.
    shows_all: bool,
}

/// The items of the first stage, and the second; `None` where there are no transformations.
pub(crate) fn split(items: &[Node], transforms: &[BoundTransform]) -> Option<(Vec<Node>, Stages)> {
    if transforms.is_empty() {
        return None;
    }
    let mut cells: Vec<Node> = transforms.iter().map(|transform| transform.of.clone()).collect();
    let shows_all = items.iter().any(|item| !has_transform(item));
    let items = items.iter().map(|item| second_stage(item, transforms.len(), &mut cells)).collect();
    let transforms = transforms.iter().enumerate().map(|(place, one)| (one.function, place)).collect();
    Some((cells, Stages { transforms, items, shows_all }))
}

fn has_transform(node: &Node) -> bool {
    match node {
        Node::Transform(_) => true,
        Node::Math { args, .. } => args.iter().any(has_transform),
        Node::Arith { first, rest } => {
            has_transform(first) || rest.iter().any(|(_, node)| has_transform(node))
        }
        _ => false,
    }
}

/// The item with its leaves as cells; those of the first stage are added.
fn second_stage(node: &Node, transforms: usize, cells: &mut Vec<Node>) -> Node {
    match node {
        Node::Transform(place) => Node::Call(*place),
        Node::Math { function, args } => {
            let args = args.iter().map(|arg| second_stage(arg, transforms, cells)).collect();
            Node::Math { function: *function, args }
        }
        Node::Arith { first, rest } => Node::Arith {
            first: Box::new(second_stage(first, transforms, cells)),
            rest: rest.iter().map(|(op, node)| (*op, second_stage(node, transforms, cells))).collect(),
        },
        Node::Const(_) | Node::Time => node.clone(),
        leaf => {
            cells.push(leaf.clone());
            Node::Call(transforms + cells.len() - 1)
        }
    }
}

impl Stages {
    /// How many buckets before the range have a say in its first one.
    pub(crate) fn buckets_before(&self) -> usize {
        self.transforms.iter().map(|(function, _)| function.buckets_before()).max().unwrap_or(0)
    }

    /// The rows of the answer, from those of the first stage, ascending. Rows without any value are left out, but those of
    /// buckets in which a column beside the transformations stands.
    pub(crate) fn rows(&self, rows: Vec<Vec<Cell>>, interval: Option<Interval>) -> Vec<Vec<Cell>> {
        let default_ns = interval.map_or(SECOND_NS, |interval| interval.every_ns);
        let mut running: Vec<Running> =
            self.transforms.iter().map(|(function, _)| Running::new(*function, default_ns)).collect();
        let shows_all = interval.is_some() && self.shows_all;
        let mut answer = Vec::with_capacity(rows.len());
        for row in rows {
            let Some((Cell::Time(ts_ns), cells)) = row.split_first() else { continue };
            let transforms = self.transforms.iter().zip(&mut running);
            let calculated = transforms.map(|((_, place), running)| match cells.get(*place) {
                None | Some(Cell::Null) => Cell::Null,
                Some(cell) => running.next(*ts_ns, cell),
            });
            let calls: Vec<Cell> = calculated.chain(cells.iter().cloned()).collect();
            let stage = Row { ts_ns: *ts_ns, calls: &calls, ..Row::default() };
            let columns: Vec<Cell> = self.items.iter().map(|item| item.cell(&stage)).collect();
            if shows_all || columns.iter().any(|cell| *cell != Cell::Null) {
                answer.push(std::iter::once(Cell::Time(*ts_ns)).chain(columns).collect());
            }
        }
        answer
    }
}

/// A transformation on its way over the values.
struct Running {
    function: Transform,
    default_ns: i64,
    before: Option<(i64, Cell)>,
    /// The values that are averaged.
    window: VecDeque<f64>,
}

impl Running {
    fn new(function: Transform, default_ns: i64) -> Self {
        Self { function, default_ns, before: None, window: VecDeque::new() }
    }

    /// The result for the next value; null where it has none.
    fn next(&mut self, ts_ns: i64, cell: &Cell) -> Cell {
        match self.function {
            Transform::Derivative { unit_ns, is_non_negative } => {
                let Some((gap_ns, rise)) = self.step(ts_ns, cell) else { return Cell::Null };
                let units = gap_ns as f64 / unit_ns.unwrap_or(self.default_ns) as f64;
                let rise = rise.number().map_or(Scalar::Null, Scalar::Float);
                signed(arith(Arith::Div, rise, Scalar::Float(units)), is_non_negative)
            }
            Transform::Difference { is_non_negative } => {
                self.step(ts_ns, cell).map_or(Cell::Null, |(_, rise)| signed(rise, is_non_negative))
            }
            Transform::MovingAverage(count) => self.average(count, cell),
            Transform::CumulativeSum => {
                let before = self.before.as_ref().map_or(Scalar::Int(0), |(_, sum)| sum.scalar());
                let sum = arith(Arith::Add, before, cell.scalar()).to_cell();
                self.before = Some((ts_ns, sum.clone()));
                sum
            }
            Transform::Elapsed { unit_ns } => {
                let before = self.before.replace((ts_ns, Cell::Null));
                before
                    .map_or(Cell::Null, |(before_ns, _)| Cell::Int(ts_ns.saturating_sub(before_ns) / unit_ns))
            }
        }
    }

    /// Time and change since the value before. Of several at one time, as series that are joined have them, the first one
    /// counts.
    fn step(&mut self, ts_ns: i64, cell: &Cell) -> Option<(i64, Scalar<'static>)> {
        if self.before.as_ref().is_some_and(|(before_ns, _)| *before_ns == ts_ns) {
            return None;
        }
        let (before_ns, before) = self.before.replace((ts_ns, cell.clone()))?;
        Some((ts_ns.saturating_sub(before_ns), arith(Arith::Sub, cell.scalar(), before.scalar())))
    }

    /// Summed anew for each row: a running sum would keep the rounding of values that have left.
    fn average(&mut self, count: usize, cell: &Cell) -> Cell {
        let Some(value) = cell.scalar().number() else { return Cell::Null };
        self.window.push_back(value);
        if count < self.window.len() {
            self.window.pop_front();
        }
        if self.window.len() < count {
            return Cell::Null;
        }
        arith(Arith::Div, Scalar::Float(self.window.iter().sum()), Scalar::Float(count as f64)).to_cell()
    }
}

fn signed(value: Scalar<'_>, is_non_negative: bool) -> Cell {
    let is_negative = value.number().is_some_and(|value| value < 0.0);
    if is_non_negative && is_negative { Cell::Null } else { value.to_cell() }
}
