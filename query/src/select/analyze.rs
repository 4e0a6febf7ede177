//! From a SELECT to a plan for each measurement: which measurements, which columns, which way to read.
//!
//! Wildcards are expanded over the fields and tags of all measurements, so that every series has the same columns.
//! Order of events: schemas, columns, names, then for each measurement binding and the choice of the [`Shape`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use icecore_storage::model::FieldType;
use icecore_storage::scan::{Scan, Schema};
use regex::Regex;

use super::ast::{Argument, Call, Dimension, Expr, Fill, Function, Name, NameKind, Pattern, Select, Source};
use super::filter::Filter;
use super::node::{Binder, Leaves, Node, accepts};
use super::stages::{self, Stages};
use super::time::TimeSplit;
use crate::{Error, ErrorKind, Result};

/// Columns of an answer at most.
const COLUMNS_MAX: usize = 10_000;

/// Columns of the answer, the same for every measurement.
#[derive(Debug)]
pub(crate) struct Columns {
    /// The names, time first.
    pub(crate) names: Vec<String>,
    pub(crate) exprs: Vec<Expr>,
    /// Tag keys to group by, sorted.
    pub(crate) group_keys: Vec<String>,
}

/// How a measurement is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Row by row.
    Rows,
    /// Aggregates.
    Aggregates,
    /// The one row that a selector picks, with what stands beside it.
    Selected,
    /// One row for each distinct value.
    Distinct,
    /// Rows that top, bottom or sample picks, with what stands beside.
    Several,
    /// What comes from the rows of a group in the order of their times.
    InOrder,
}

/// A SELECT bound to one measurement.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) shape: Shape,
    /// What is read: the columns, or what transformations are taken of.
    pub(crate) items: Vec<Node>,
    /// How columns with transformations come from what is read.
    pub(crate) stages: Option<Stages>,
    pub(crate) binder: Binder<'a>,
    /// For each call the place of its field among the bound fields.
    pub(crate) call_places: Vec<Option<usize>>,
    pub(crate) filter: Filter,
    /// Whether rows must come with the tags of their series: to show, to test or to sort them.
    pub(crate) needs_tags: bool,
}

/// The schemas that the sources name, sorted by measurement, each once.
pub(crate) fn schemas(scan: &dyn Scan, sources: &[Source]) -> Vec<Schema> {
    let mut names = BTreeSet::new();
    for source in sources {
        let Source::Measurement { measurement, .. } = source else { continue };
        match measurement {
            Pattern::Name(name) => {
                names.insert(name.clone());
            }
            Pattern::Regex(regex) => {
                let all = scan.measurements();
                names.extend(all.iter().filter(|name| regex.is_match(name)).map(|name| name.to_string()));
            }
        }
    }
    names.iter().filter_map(|name| scan.schema(name)).collect()
}

/// Fields and tags of all measurements together.
#[derive(Debug, Default)]
struct Union {
    fields: BTreeMap<String, FieldType>,
    tags: BTreeSet<String>,
}

impl Union {
    fn of(schemas: &[Schema]) -> Self {
        let mut union = Self::default();
        for schema in schemas {
            for field in &schema.fields {
                union.fields.entry(field.name.to_string()).or_insert(field.field_type);
            }
            union.tags.extend(schema.tag_keys.iter().map(|key| key.to_string()));
        }
        union
    }
}

impl Columns {
    /// Expands the SELECT list and names its columns.
    ///
    /// # Errors
    /// `LimitExceeded` when they are too many.
    pub(crate) fn of(select: &Select, schemas: &[Schema]) -> Result<Self> {
        let union = Union::of(schemas);
        let group_keys = group_keys(&select.dimensions, &union);
        // As in InfluxDB: `*` shows no tags beside dimensions that are not named one by one.
        let is_named = select.dimensions.iter().all(|dimension| matches!(dimension, Dimension::Tag(_)));
        let hidden_tags = if is_named { group_keys.clone() } else { union.tags.iter().cloned().collect() };
        let mut time_name = "time".to_owned();
        let (mut wanted, mut exprs) = (Vec::new(), Vec::new());
        for item in &select.items {
            if item.expr.is_time() {
                time_name = item.alias.clone().unwrap_or(time_name);
                continue;
            }
            for (name, expr) in expand(&item.expr, &union, &hidden_tags) {
                wanted.push(match (&item.alias, name) {
                    (Some(alias), Column::Whole(_)) => alias.clone(),
                    (Some(alias), Column::OfField { field, .. }) => format!("{alias}_{field}"),
                    (None, Column::Whole(name)) => name,
                    (None, Column::OfField { call, field }) => format!("{call}_{field}"),
                });
                exprs.push(expr);
            }
            if let Expr::Call(Call { by, .. }) = &item.expr {
                wanted.extend(by.iter().cloned());
                exprs.extend(
                    by.iter().map(|tag| {
                        Expr::Name(Name { text: tag.clone(), kind: NameKind::Tag, is_quoted: true })
                    }),
                );
            }
        }
        if COLUMNS_MAX < wanted.len() {
            let message = format!("the answer has {} columns, more than {COLUMNS_MAX}", wanted.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let mut names = vec![time_name.clone()];
        let mut taken = Taken::default();
        taken.names.insert(time_name);
        names.extend(wanted.into_iter().map(|name| taken.unused(name)));
        Ok(Self { names, exprs, group_keys })
    }
}

/// What a column is called.
enum Column {
    Whole(String),
    /// One of the fields that a wildcard in a call stands for.
    OfField {
        call: String,
        field: String,
    },
}

/// Names of columns so far.
#[derive(Default)]
struct Taken {
    names: HashSet<String>,
    /// What is put behind a name next.
    next: HashMap<String, usize>,
}

impl Taken {
    /// The name, or the name with the first `_n` that is free.
    fn unused(&mut self, name: String) -> String {
        if self.names.insert(name.clone()) {
            return name;
        }
        let next = self.next.entry(name.clone()).or_insert(1);
        loop {
            let candidate = format!("{name}_{next}");
            *next += 1;
            if self.names.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

fn group_keys(dimensions: &[Dimension], union: &Union) -> Vec<String> {
    let mut keys = BTreeSet::new();
    for dimension in dimensions {
        match dimension {
            Dimension::Tag(key) => {
                keys.insert(key.clone());
            }
            Dimension::All => keys.extend(union.tags.iter().cloned()),
            Dimension::Regex(regex) => {
                keys.extend(union.tags.iter().filter(|key| regex.is_match(key)).cloned())
            }
        }
    }
    keys.into_iter().collect()
}

/// The columns that an item stands for, with their names.
fn expand(expr: &Expr, union: &Union, hidden_tags: &[String]) -> Vec<(Column, Expr)> {
    let whole = |names: Vec<(String, Expr)>| {
        names.into_iter().map(|(name, expr)| (Column::Whole(name), expr)).collect::<Vec<_>>()
    };
    match expr {
        Expr::Wildcard(kind) => return whole(names_of(union, *kind, hidden_tags, |_| true)),
        Expr::Regex(regex) => {
            return whole(names_of(union, NameKind::Any, hidden_tags, |name| regex.is_match(name)));
        }
        _ => {}
    }
    let Some(inner) = innermost(expr) else { return whole(vec![(column_name(expr), expr.clone())]) };
    let fields = union.fields.iter().filter(|(name, field_type)| inner.takes(name, **field_type));
    let column = |(field, _): (&String, &FieldType)| {
        let name = Name { text: field.clone(), kind: NameKind::Field, is_quoted: true };
        let column = Column::OfField { call: column_name(expr), field: field.clone() };
        (column, with_field(expr, &name))
    };
    fields.map(column).collect()
}

/// A wildcard inside a call, and what it is asked for.
struct Innermost<'a> {
    function: Option<Function>,
    regex: Option<&'a Regex>,
}

impl Innermost<'_> {
    fn takes(&self, name: &str, field_type: FieldType) -> bool {
        let is_number = matches!(field_type, FieldType::Float | FieldType::Int | FieldType::UInt);
        self.regex.is_none_or(|regex| regex.is_match(name))
            && self.function.map_or(is_number, |function| accepts(function, field_type))
    }
}

/// The wildcard that a call, or a call inside a transformation, is taken of.
fn innermost(expr: &Expr) -> Option<Innermost<'_>> {
    match expr {
        Expr::Call(call) => match &call.argument {
            Argument::Name(_) => None,
            Argument::Wildcard => Some(Innermost { function: Some(call.function), regex: None }),
            Argument::Regex(regex) => Some(Innermost { function: Some(call.function), regex: Some(regex) }),
        },
        Expr::Transform { of, .. } => innermost(of),
        Expr::Math { args, .. } => args.first().and_then(innermost),
        Expr::Wildcard(_) => Some(Innermost { function: None, regex: None }),
        Expr::Regex(regex) => Some(Innermost { function: None, regex: Some(regex) }),
        _ => None,
    }
}

/// The expression with a field in place of its wildcard.
fn with_field(expr: &Expr, field: &Name) -> Expr {
    match expr {
        Expr::Call(call) => Expr::Call(Call { argument: Argument::Name(field.clone()), ..call.clone() }),
        Expr::Transform { function, name, of } => {
            Expr::Transform { function: *function, name: name.clone(), of: Box::new(with_field(of, field)) }
        }
        Expr::Math { function, name, args } => {
            let args = args.iter().enumerate();
            let args = args.map(|(place, arg)| if place == 0 { with_field(arg, field) } else { arg.clone() });
            Expr::Math { function: *function, name: name.clone(), args: args.collect() }
        }
        Expr::Wildcard(_) | Expr::Regex(_) => Expr::Name(field.clone()),
        other => other.clone(),
    }
}

fn names_of(
    union: &Union,
    kind: NameKind,
    hidden_tags: &[String],
    accepts: impl Fn(&str) -> bool,
) -> Vec<(String, Expr)> {
    let fields = union.fields.keys().filter(|_| kind != NameKind::Tag).map(|name| (name, NameKind::Field));
    let tags = union.tags.iter().filter(|key| kind != NameKind::Field && !hidden_tags.contains(key));
    let mut names: Vec<_> = fields.chain(tags.map(|key| (key, NameKind::Tag))).collect();
    names.sort_by(|left, right| left.0.cmp(right.0));
    names
        .into_iter()
        .filter(|(name, _)| accepts(name))
        .map(|(name, kind)| {
            let reference = Name { text: name.clone(), kind, is_quoted: true };
            (name.clone(), Expr::Name(reference))
        })
        .collect()
}

/// The name InfluxDB gives: a call by its function, a calculation by its names joined.
fn column_name(expr: &Expr) -> String {
    let mut parts = Vec::new();
    collect_names(expr, &mut parts);
    parts.join("_")
}

fn collect_names<'a>(expr: &'a Expr, parts: &mut Vec<&'a str>) {
    match expr {
        Expr::Name(name) => parts.push(&name.text),
        Expr::Call(call) => parts.push(&call.name),
        Expr::Math { name, .. } | Expr::Transform { name, .. } => parts.push(name),
        Expr::Arith { first, rest } => {
            collect_names(first, parts);
            rest.iter().for_each(|(_, operand)| collect_names(operand, parts));
        }
        _ => {}
    }
}

impl<'a> Plan<'a> {
    /// Binds the statement to a measurement.
    ///
    /// # Errors
    /// `InvalidInput` where names, types and functions do not fit together.
    pub(crate) fn of(
        select: &Select,
        columns: &Columns,
        split: &TimeSplit,
        schema: &'a Schema,
        now_ns: i64,
    ) -> Result<Self> {
        let mut binder = Binder::new(schema, select.clock(now_ns));
        let items = columns.exprs.iter().map(|expr| binder.item(expr)).collect::<Result<Vec<_>>>()?;
        let (items, stages) = match stages::split(&items, &binder.transforms) {
            Some((items, stages)) => (items, Some(stages)),
            None => (items, None),
        };
        let shape = shape(select, &items, &binder, split.has_start)?;
        let filter = Filter::bind(&split.rest, &mut binder)?;
        let calls = binder.calls.clone();
        let call_places =
            calls.iter().map(|call| call.field.as_ref().map(|field| binder.column(field))).collect();
        let mut leaves = Leaves::default();
        items.iter().chain(&filter.row_tests).for_each(|node| node.leaves(&mut leaves));
        let picks_by_tags = calls.iter().any(|call| !call.by.is_empty());
        let needs_tags = shape == Shape::Rows || !leaves.tags.is_empty() || picks_by_tags;
        Ok(Self { schema, shape, items, stages, binder, call_places, filter, needs_tags })
    }
}

fn shape(select: &Select, items: &[Node], binder: &Binder<'_>, has_start: bool) -> Result<Shape> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
    let mut leaves = Leaves::default();
    items.iter().for_each(|item| item.leaves(&mut leaves));
    if leaves.has_call && !binder.transforms.is_empty() && select.interval.is_none() {
        return refuse("a transformation of an aggregate needs GROUP BY time()");
    }
    if !leaves.has_call {
        return match select.interval {
            Some(_) => refuse("GROUP BY time() needs an aggregate, such as mean(), in the SELECT list"),
            None => Ok(Shape::Rows),
        };
    }
    let has_distinct = binder.calls.iter().any(|call| call.function == Function::Distinct);
    if has_distinct {
        return match items {
            [Node::Call(_)] => Ok(Shape::Distinct),
            _ => refuse(
                "distinct() must stand alone in the SELECT list; count(distinct()) may stand with others",
            ),
        };
    }
    let several = binder.calls.iter().filter(|call| call.function.picks_several()).count();
    if 0 < several {
        return match (binder.calls.len(), several) {
            (1, 1) if binder.transforms.is_empty() => Ok(Shape::Several),
            _ => refuse("top(), bottom() and sample() stand alone, or beside fields and tags"),
        };
    }
    if let Some(call) = binder.calls.iter().find(|call| call.function.needs_order()) {
        let is_alone = binder.calls.len() == 1 && !leaves.has_row && leaves.tags.is_empty();
        let is_bounded = matches!(call.function, Function::Integral { .. }) || has_start;
        return match is_alone {
            true if is_bounded => Ok(Shape::InOrder),
            true => refuse("uptime() and downtime() need a start, such as WHERE time > now() - 1d"),
            false => refuse(
                "integral(), uptime() and downtime() cannot stand beside other functions, fields and tags",
            ),
        };
    }
    let is_selector = matches!(binder.calls.as_slice(), [call] if call.function.is_selector());
    if leaves.has_row || !leaves.tags.is_empty() {
        return match is_selector {
            true if select.interval.is_some() && !matches!(select.fill, Fill::Null | Fill::None) => {
                Err(Error::new(
                    ErrorKind::Unsupported,
                    "fill() other than null and none is not supported where columns stand beside a selector",
                ))
            }
            true => Ok(Shape::Selected),
            false => refuse(
                "fields and tags cannot stand beside aggregates (only beside one of min, max, first, last); group by \
                 the tag instead",
            ),
        };
    }
    // Calculated with, too, one selector carries the time of its row.
    let needs_row_time = is_selector && select.interval.is_none();
    Ok(if needs_row_time { Shape::Selected } else { Shape::Aggregates })
}
