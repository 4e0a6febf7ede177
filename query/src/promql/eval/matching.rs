//! Two vectors: which series meet, and what labels the result has.
//!
//! Series meet by their signature, the labels that `on` or `ignoring` leaves. Signatures do not change over the
//! steps, so series are grouped once; which of a group have a point is looked at step by step.

use std::collections::{HashMap, HashSet};

use super::super::ast::{Binary, BinaryOp, Cardinality, Expr, Matching};
use super::super::value::{Labels, Sample, is_reserved};
use super::series::{Series, series_bytes};
use super::{Evaluator, Grid};
use crate::{Budget, Error, ErrorKind, Result};

/// The labels by which a series meets others.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let is_listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.is_on {
        labels.filtered(is_listed)
    } else {
        labels.filtered(|name| !is_reserved(name) && !is_listed(name))
    }
}

fn by_signature(series: &[Series], matching: &Matching) -> HashMap<Labels, Vec<usize>> {
    let mut groups: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (index, one) in series.iter().enumerate() {
        groups.entry(signature(&one.labels, matching)).or_default().push(index);
    }
    groups
}

/// `and`, `or`, `unless`.
pub(super) fn set_operation(binary: &Binary, mut left: Vec<Series>, right: Vec<Series>) -> Vec<Series> {
    let matching = &binary.matching;
    if binary.op == BinaryOp::Or {
        return union(matching, left, right);
    }
    let is_and = binary.op == BinaryOp::And;
    let groups = by_signature(&right, matching);
    for one in &mut left {
        let group = groups.get(&signature(&one.labels, matching)).map(Vec::as_slice).unwrap_or_default();
        for (step, point) in one.points.iter_mut().enumerate() {
            let is_there = group.iter().any(|index| right.get(*index).is_some_and(|r| r.at(step).is_some()));
            if is_there != is_and {
                *point = None;
            }
        }
    }
    left.retain(|series| !series.is_empty());
    left
}

fn union(matching: &Matching, mut left: Vec<Series>, right: Vec<Series>) -> Vec<Series> {
    let groups = by_signature(&left, matching);
    let places: HashMap<(Labels, bool), usize> =
        left.iter().enumerate().map(|(index, one)| ((one.labels.clone(), one.drops_name), index)).collect();
    let mut added = Vec::new();
    for mut one in right {
        let group = groups.get(&signature(&one.labels, matching)).map(Vec::as_slice).unwrap_or_default();
        for (step, point) in one.points.iter_mut().enumerate() {
            if group.iter().any(|index| left.get(*index).is_some_and(|l| l.at(step).is_some())) {
                *point = None;
            }
        }
        // The same series on both sides stays one series. It fills only steps at which its left half has no point,
        // so what later series of the right see in the group does not change for them.
        added.push((places.get(&(one.labels.clone(), one.drops_name)).copied(), one));
    }
    let mut new = Vec::new();
    for (place, one) in added {
        match place.and_then(|place| left.get_mut(place)) {
            Some(known) => {
                for (mine, theirs) in known.points.iter_mut().zip(one.points) {
                    *mine = mine.take().or(theirs);
                }
            }
            None => new.push(one),
        }
    }
    left.extend(new);
    left.retain(|series| !series.is_empty());
    left
}

/// The labels of a result, as Prometheus composes them.
fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let matching = &binary.matching;
    let is_arithmetic = !binary.op.is_comparison() && !binary.op.is_set() && !binary.op.is_trim();
    let base = if is_arithmetic { many.without_name() } else { many.clone() };
    let is_listed = |name: &str| matching.labels.iter().any(|label| label == name);
    match matching.cardinality {
        Cardinality::OneToOne if matching.is_on => base.filtered(is_listed),
        Cardinality::OneToOne => base.filtered(|name| !is_listed(name)),
        Cardinality::ManyToOne | Cardinality::OneToMany => {
            matching.include.iter().fold(base, |labels, name| labels.with(name, one.get(name)))
        }
    }
}

/// The place of what stands for a missing series. The series that it meets tells which one it is.
const FILLED: usize = usize::MAX;

/// A sample of one side of a pair.
struct Side<'a> {
    /// Its series in the list, or [`FILLED`].
    place: usize,
    labels: &'a Labels,
    drops_name: bool,
    point: &'a Sample,
}

impl<'a> Side<'a> {
    fn of(place: usize, series: &'a Series, step: usize) -> Option<Self> {
        let point = series.at(step)?;
        Some(Self { place, labels: &series.labels, drops_name: series.drops_name, point })
    }

    /// What stands for a series that is missing: the labels by which it would have met the other one.
    fn filled(signature: &'a Labels, point: &'a Sample) -> Self {
        Self { place: FILLED, labels: signature, drops_name: false, point }
    }
}

/// The results of a join, as they come in.
struct Joined<'a> {
    binary: &'a Binary,
    steps: usize,
    /// Result of each pair that has met.
    pairs: HashMap<(usize, usize), usize>,
    /// Result of each label set.
    places: HashMap<Labels, usize>,
    series: Vec<Series>,
    /// The step at which a result was last taken, points that a comparison left out among them.
    taken: Vec<Option<usize>>,
}

impl Joined<'_> {
    /// The place of a pair's result, which is made when it is new.
    ///
    /// # Errors
    /// Those of the budget.
    fn place(&mut self, many: &Side<'_>, one: &Side<'_>, budget: &Budget) -> Result<usize> {
        let key = (many.place, one.place);
        if let Some(place) = self.pairs.get(&key) {
            return Ok(*place);
        }
        budget.charge_bytes(series_bytes(0))?;
        let labels = result_labels(self.binary, many.labels, one.labels);
        let place = *self.places.entry(labels.clone()).or_insert(self.series.len());
        if place == self.series.len() {
            budget.charge_bytes(series_bytes(self.steps) + labels.memory_bytes())?;
            self.series.push(Series {
                labels,
                drops_name: self.binary.is_bool,
                points: vec![None; self.steps],
            });
            self.taken.push(None);
        }
        if let Some(series) = self.series.get_mut(place) {
            series.drops_name |= many.drops_name;
        }
        self.pairs.insert(key, place);
        Ok(place)
    }

    /// Whether the result is free at this step; it is not afterwards.
    fn take(&mut self, place: usize, step: usize) -> bool {
        match self.taken.get_mut(place) {
            Some(taken) if *taken == Some(step) => false,
            Some(taken) => {
                *taken = Some(step);
                true
            }
            None => true,
        }
    }
}

impl Evaluator<'_> {
    /// Arithmetic and comparison between vectors.
    pub(super) fn join(
        &self,
        expr: &Expr,
        binary: &Binary,
        left: Vec<Series>,
        right: Vec<Series>,
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let is_right_many = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if is_right_many { (&right, &left) } else { (&left, &right) };
        let groups = by_signature(one, &binary.matching);
        let signatures_of = |series: &[Series]| -> Vec<Labels> {
            series.iter().map(|series| signature(&series.labels, &binary.matching)).collect()
        };
        let signatures = signatures_of(many);
        let fill = binary.matching.fill;
        let (fill_many, fill_one) =
            if is_right_many { (fill.right, fill.left) } else { (fill.left, fill.right) };
        let (fill_many, fill_one) = (fill_many.map(Sample::Float), fill_one.map(Sample::Float));
        let is_filled = fill_many.is_some() || fill_one.is_some();
        let one_signatures = if fill_many.is_some() { signatures_of(one) } else { Vec::new() };
        let mut joined = Joined {
            binary,
            steps: grid.count,
            pairs: HashMap::new(),
            places: HashMap::new(),
            series: Vec::new(),
            taken: Vec::new(),
        };
        let empty = Vec::new();
        let mut crowded: Vec<_> = groups.iter().filter(|(_, group)| group.len() > 1).collect();
        crowded.sort_unstable();
        for step in 0..grid.count {
            self.context.budget.check_time()?;
            let mut met: HashSet<&Labels> = HashSet::new();
            // A side without samples meets nothing, whatever stands on the other one.
            if is_filled || many.iter().any(|series| series.at(step).is_some()) {
                check_one_side(binary, one, &crowded, step)?;
            }
            for (place, (series, key)) in many.iter().zip(&signatures).enumerate() {
                let Some(many_side) = Side::of(place, series, step) else { continue };
                let group = groups.get(key).unwrap_or(&empty);
                let found = group.iter().find_map(|index| Side::of(*index, one.get(*index)?, step));
                let filled = fill_one.as_ref().map(|point| Side::filled(key, point));
                let Some(one_side) = found.or(filled) else { continue };
                let is_first = met.insert(key);
                self.meet(expr, &mut joined, (&many_side, &one_side), step, is_first)?;
            }
            let Some(point) = &fill_many else { continue };
            for (place, (series, key)) in one.iter().zip(&one_signatures).enumerate() {
                let Some(one_side) = Side::of(place, series, step) else { continue };
                if met.insert(key) {
                    self.meet(expr, &mut joined, (&Side::filled(key, point), &one_side), step, true)?;
                }
            }
        }
        Ok(joined.series)
    }

    /// Puts what two samples make to its series. `is_first`: none of this signature has met at the step before.
    fn meet(
        &self,
        expr: &Expr,
        joined: &mut Joined<'_>,
        (many, one): (&Side<'_>, &Side<'_>),
        step: usize,
        is_first: bool,
    ) -> Result<()> {
        let (binary, cardinality) = (joined.binary, joined.binary.matching.cardinality);
        let is_right_many = cardinality == Cardinality::OneToMany;
        let (l, r) = if is_right_many { (one.point, many.point) } else { (many.point, one.point) };
        let result = self.pair(expr, binary, l, r);
        // Prometheus refuses this even where the comparison leaves out all but one of them.
        if cardinality == Cardinality::OneToOne && !is_first {
            return Err(ambiguous("many-to-one matching must be explicit (group_left/group_right)"));
        }
        let Some(sample) = &result else { return Ok(()) };
        let budget = self.context.budget;
        budget.charge_bytes(sample.heap_bytes())?;
        let place = joined.place(many, one, budget)?;
        if !joined.take(place, step) {
            return Err(ambiguous("grouping labels must ensure unique matches"));
        }
        if let Some(series) = joined.series.get_mut(place) {
            series.set(step, result);
        }
        Ok(())
    }
}

/// The side of one must have at most one series with a point for each signature; `crowded` has more.
fn check_one_side(
    binary: &Binary,
    one: &[Series],
    crowded: &[(&Labels, &Vec<usize>)],
    step: usize,
) -> Result<()> {
    for (key, group) in crowded {
        let mut there = group.iter().filter_map(|index| one.get(*index)).filter(|s| s.at(step).is_some());
        if let (Some(first), Some(second)) = (there.next(), there.next()) {
            let is_left = binary.matching.cardinality == Cardinality::OneToMany;
            let side = if is_left { "left" } else { "right" };
            return Err(Error::new(
                ErrorKind::Execution,
                format!(
                    "found duplicate series for the match group {key} on the {side} hand-side of the \
                     operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on \
                     one side",
                    first.labels, second.labels
                ),
            ));
        }
    }
    Ok(())
}

fn ambiguous(reason: &str) -> Error {
    Error::new(ErrorKind::Execution, format!("multiple matches for labels: {reason}"))
}
