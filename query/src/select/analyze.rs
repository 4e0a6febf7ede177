//! From a SELECT to a plan for each measurement: which measurements, which columns, which way to read.
//!
//! Wildcards are expanded over the fields and tags of all measurements, so that every series has the same columns.
//! Order of events: schemas, columns, names, then for each measurement binding and the choice of the [`Shape`].

use std::collections::{BTreeMap, BTreeSet};

use icecore_storage::model::FieldType;
use icecore_storage::scan::{Scan, Schema};

use super::ast::{Argument, Call, Dimension, Expr, Function, Name, NameKind, Pattern, Select, Source};
use super::filter::Filter;
use super::node::{Binder, Leaves, Node, accepts};
use super::time::TimeSplit;
use crate::{Error, ErrorKind, Result};

/// Columns of the answer, the same for every measurement.
#[derive(Debug)]
pub(crate) struct Columns {
    /// The names, time first.
    pub(crate) names: Vec<String>,
    exprs: Vec<Expr>,
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
}

/// A SELECT bound to one measurement.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) shape: Shape,
    pub(crate) items: Vec<Node>,
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
        match &source.measurement {
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
    pub(crate) fn of(select: &Select, schemas: &[Schema]) -> Self {
        let union = Union::of(schemas);
        let group_keys = group_keys(&select.dimensions, &union);
        let mut time_name = "time".to_owned();
        let (mut wanted, mut exprs) = (Vec::new(), Vec::new());
        for item in &select.items {
            if item.expr.is_time() {
                time_name = item.alias.clone().unwrap_or(time_name);
                continue;
            }
            for (name, expr) in expand(&item.expr, &union, &group_keys) {
                wanted.push(item.alias.clone().unwrap_or(name));
                exprs.push(expr);
            }
        }
        let mut names = vec![time_name];
        for name in wanted {
            names.push(unused(&names, name));
        }
        Self { names, exprs, group_keys }
    }
}

/// The name, or the name with the first `_n` that is free.
fn unused(taken: &[String], name: String) -> String {
    if !taken.contains(&name) {
        return name;
    }
    (1..).map(|n| format!("{name}_{n}")).find(|candidate| !taken.contains(candidate)).unwrap_or(name)
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
fn expand(expr: &Expr, union: &Union, group_keys: &[String]) -> Vec<(String, Expr)> {
    match expr {
        Expr::Wildcard(kind) => names_of(union, *kind, group_keys, |_| true),
        Expr::Regex(regex) => names_of(union, NameKind::Any, group_keys, |name| regex.is_match(name)),
        Expr::Call(call) => match &call.argument {
            Argument::Name(_) => vec![(column_name(expr), expr.clone())],
            Argument::Wildcard => calls_of(call, union, |_| true),
            Argument::Regex(regex) => calls_of(call, union, |name| regex.is_match(name)),
        },
        _ => vec![(column_name(expr), expr.clone())],
    }
}

fn names_of(
    union: &Union,
    kind: NameKind,
    group_keys: &[String],
    accepts: impl Fn(&str) -> bool,
) -> Vec<(String, Expr)> {
    let fields = union.fields.keys().filter(|_| kind != NameKind::Tag).map(|name| (name, NameKind::Field));
    let tags = union.tags.iter().filter(|key| kind != NameKind::Field && !group_keys.contains(key));
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

fn calls_of(call: &Call, union: &Union, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, Expr)> {
    let fields = union
        .fields
        .iter()
        .filter(|(name, field_type)| is_wanted(name) && accepts(call.function, **field_type));
    fields
        .map(|(name, _)| {
            let argument =
                Argument::Name(Name { text: name.clone(), kind: NameKind::Field, is_quoted: true });
            let one = Call { function: call.function, name: call.name.clone(), argument };
            (format!("{}_{name}", call.name), Expr::Call(one))
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
        let mut binder = Binder::new(schema, now_ns);
        let items = columns.exprs.iter().map(|expr| binder.item(expr)).collect::<Result<Vec<_>>>()?;
        let shape = shape(select, &items, &binder)?;
        let filter = Filter::bind(&split.rest, &mut binder)?;
        let calls = binder.calls.clone();
        let call_places =
            calls.iter().map(|call| call.field.as_ref().map(|field| binder.column(field))).collect();
        let mut leaves = Leaves::default();
        items.iter().chain(&filter.row_tests).for_each(|node| node.leaves(&mut leaves));
        let needs_tags = shape == Shape::Rows || !leaves.tags.is_empty();
        Ok(Self { schema, shape, items, binder, call_places, filter, needs_tags })
    }
}

fn shape(select: &Select, items: &[Node], binder: &Binder<'_>) -> Result<Shape> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidInput, message));
    let mut leaves = Leaves::default();
    items.iter().for_each(|item| item.leaves(&mut leaves));
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
    let is_selector = matches!(binder.calls.as_slice(), [call] if call.function.is_selector());
    if leaves.has_row || !leaves.tags.is_empty() {
        return match is_selector {
            true => Ok(Shape::Selected),
            false => refuse(
                "fields and tags cannot stand beside aggregates (only beside one of min, max, first, last); group by \
                 the tag instead",
            ),
        };
    }
    let is_bare = matches!(items, [Node::Call(_)]);
    let needs_row_time = is_selector && is_bare && select.interval.is_none();
    Ok(if needs_row_time { Shape::Selected } else { Shape::Aggregates })
}
