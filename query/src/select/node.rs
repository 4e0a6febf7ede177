//! Expressions bound to the schema of one measurement, evaluated on rows without allocating.
//!
//! [`Binder`] turns names into columns of a block, tags of a series or aggregate calls; a name that the
//! measurement does not have is null in the SELECT list and an absent tag in conditions.

use icecore_storage::model::{Column, FieldType, SeriesKey, ValueRef};
use icecore_storage::scan::{FieldInfo, Schema};
use regex::Regex;

use super::ast::{Argument, Arith, Call, Compare, Expr, Function, Math, Name, NameKind, Transform};
use super::math::math;
use super::scalar::{Cell, Scalar, arith, compare};
use super::time::{Clock, time_value};
use crate::{Error, ErrorKind, Result};

/// What an expression is evaluated on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    pub(crate) ts_ns: i64,
    pub(crate) tags: Tags<'a>,
    pub(crate) columns: &'a [Column],
    /// For each bound field its place among the columns.
    pub(crate) places: &'a [usize],
    pub(crate) index: usize,
    /// Values of the aggregate calls.
    pub(crate) calls: &'a [Cell],
}

impl<'a> Row<'a> {
    /// The value of a bound field, by its place.
    pub(crate) fn value(&self, place: usize) -> Option<ValueRef<'a>> {
        let column = self.places.get(place).and_then(|place| self.columns.get(*place))?;
        column.get(self.index)
    }
}

/// Where tags are looked up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Tags<'a> {
    #[default]
    None,
    /// Those of a series.
    Key(&'a SeriesKey),
    /// Every tag has this value; for expressions that name only one.
    Value(&'a str),
}

impl<'a> Tags<'a> {
    pub(crate) fn get(self, key: &str) -> Option<&'a str> {
        match self {
            Self::None => None,
            Self::Key(series) => series.tag(key),
            Self::Value(value) => Some(value),
        }
    }
}

/// A bound expression.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Const(Cell),
    /// A field, by its place among the requested fields.
    Column(usize),
    /// A tag, null where the series does not have it.
    Tag(String),
    /// A tag, empty where the series does not have it.
    TagText(String),
    Time,
    /// An aggregate call, by its place in the list of calls.
    Call(usize),
    /// A transformation, by its place in the list of transformations.
    Transform(usize),
    Math {
        function: Math,
        args: Vec<Self>,
    },
    Arith {
        first: Box<Self>,
        rest: Vec<(Arith, Self)>,
    },
    Compare {
        op: Compare,
        left: Box<Self>,
        right: Box<Self>,
    },
    Match {
        left: Box<Self>,
        regex: Regex,
        is_negated: bool,
    },
    In {
        left: Box<Self>,
        list: Vec<Cell>,
        is_negated: bool,
    },
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

impl Node {
    /// The value on a row.
    pub(crate) fn eval<'a>(&'a self, row: &Row<'a>) -> Scalar<'a> {
        match self {
            Self::Const(cell) => cell.scalar(),
            Self::Column(place) => row.value(*place).map_or(Scalar::Null, Scalar::from),
            Self::Tag(key) => row.tags.get(key).map_or(Scalar::Null, Scalar::Text),
            Self::TagText(key) => Scalar::Text(row.tags.get(key).unwrap_or_default()),
            Self::Time => Scalar::Int(row.ts_ns),
            Self::Call(place) => row.calls.get(*place).map_or(Scalar::Null, Cell::scalar),
            // Set in stages, where it is a cell.
            Self::Transform(_) => Scalar::Null,
            Self::Math { function, args } => {
                let arg = |place: usize| args.get(place).map_or(Scalar::Null, |arg| arg.eval(row));
                math(*function, arg(0), arg(1))
            }
            Self::Arith { first, rest } => {
                rest.iter().fold(first.eval(row), |sum, (op, operand)| arith(*op, sum, operand.eval(row)))
            }
            Self::Compare { .. }
            | Self::Match { .. }
            | Self::In { .. }
            | Self::All(_)
            | Self::Any(_)
            | Self::Not(_) => Scalar::Bool(self.holds(row)),
        }
    }

    /// Whether the condition holds on a row.
    pub(crate) fn holds(&self, row: &Row<'_>) -> bool {
        match self {
            Self::Compare { op, left, right } => compare(*op, left.eval(row), right.eval(row)),
            Self::Match { left, regex, is_negated } => match left.eval(row) {
                Scalar::Text(text) => regex.is_match(text) != *is_negated,
                _ => false,
            },
            Self::In { left, list, is_negated } => match left.eval(row) {
                Scalar::Null => false,
                value => list.iter().any(|entry| compare(Compare::Eq, value, entry.scalar())) != *is_negated,
            },
            Self::All(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Not(inner) => !inner.holds(row),
            Self::Const(_)
            | Self::Column(_)
            | Self::Tag(_)
            | Self::TagText(_)
            | Self::Time
            | Self::Call(_)
            | Self::Transform(_)
            | Self::Math { .. }
            | Self::Arith { .. } => self.eval(row) == Scalar::Bool(true),
        }
    }

    /// The expression as a cell, for results.
    pub(crate) fn cell(&self, row: &Row<'_>) -> Cell {
        self.eval(row).to_cell()
    }

    /// Notes which kinds of leaves the expression has.
    pub(crate) fn leaves<'a>(&'a self, leaves: &mut Leaves<'a>) {
        match self {
            Self::Const(_) => {}
            Self::Column(_) | Self::Time => leaves.has_row = true,
            Self::Call(_) => leaves.has_call = true,
            Self::Transform(_) => {}
            Self::Math { args, .. } => args.iter().for_each(|arg| arg.leaves(leaves)),
            Self::Tag(key) | Self::TagText(key) => leaves.tags.push(key),
            Self::Arith { first, rest } => {
                first.leaves(leaves);
                rest.iter().for_each(|(_, operand)| operand.leaves(leaves));
            }
            Self::Compare { left, right, .. } => {
                left.leaves(leaves);
                right.leaves(leaves);
            }
            Self::Match { left, .. } | Self::In { left, .. } => left.leaves(leaves),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.leaves(leaves)),
            Self::Not(inner) => inner.leaves(leaves),
        }
    }
}

/// What an expression depends on.
#[derive(Debug, Default)]
pub(crate) struct Leaves<'a> {
    /// A field or the time of the row.
    pub(crate) has_row: bool,
    pub(crate) has_call: bool,
    pub(crate) tags: Vec<&'a str>,
}

/// An aggregate call bound to a field; `None` when the measurement does not have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundCall {
    pub(crate) function: Function,
    pub(crate) field: Option<FieldInfo>,
    /// See [`Call::by`].
    pub(crate) by: Vec<String>,
}

/// Binds expressions to one measurement and collects the fields and calls they need.
#[derive(Debug)]
pub(crate) struct Binder<'a> {
    schema: &'a Schema,
    clock: Clock,
    /// Fields that rows must carry, in order of first use.
    pub(crate) fields: Vec<FieldInfo>,
    pub(crate) calls: Vec<BoundCall>,
    pub(crate) transforms: Vec<BoundTransform>,
}

/// A transformation and what it is taken of.
#[derive(Debug, Clone)]
pub(crate) struct BoundTransform {
    pub(crate) function: Transform,
    pub(crate) of: Node,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(schema: &'a Schema, clock: Clock) -> Self {
        Self { schema, clock, fields: Vec::new(), calls: Vec::new(), transforms: Vec::new() }
    }

    /// The place of a field among the requested ones.
    pub(crate) fn column(&mut self, field: &FieldInfo) -> usize {
        let known = self.fields.iter().position(|other| other == field);
        known.unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        })
    }

    /// Binds an item of the SELECT list.
    ///
    /// # Errors
    /// `InvalidInput` when a function is not for the type of its field.
    pub(crate) fn item(&mut self, expr: &Expr) -> Result<Node> {
        self.bind(expr, false)
    }

    /// Binds a condition.
    ///
    /// # Errors
    /// `InvalidInput` for a double-quoted name that is neither field nor tag, where a string was meant.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Result<Node> {
        self.bind(expr, true)
    }

    fn bind(&mut self, expr: &Expr, in_condition: bool) -> Result<Node> {
        Ok(match expr {
            Expr::Name(name) => self.name(name, in_condition),
            Expr::Text(text) => Node::Const(Cell::Text(text.clone())),
            Expr::Integer(value) | Expr::Duration(value) => Node::Const(Cell::Int(*value)),
            Expr::Float(value) => Node::Const(Cell::Float(*value)),
            Expr::Bool(value) => Node::Const(Cell::Bool(*value)),
            Expr::Now => Node::Const(Cell::Int(self.clock.now_ns)),
            Expr::Call(call) => self.call(call)?,
            Expr::Math { function, args, .. } => {
                let args = args.iter().map(|arg| self.bind(arg, in_condition));
                Node::Math { function: *function, args: args.collect::<Result<_>>()? }
            }
            Expr::Transform { function, name, of } => self.transform(*function, name, of)?,
            Expr::Arith { first, rest } => Node::Arith {
                first: Box::new(self.bind(first, in_condition)?),
                rest: rest
                    .iter()
                    .map(|(op, operand)| Ok((*op, self.bind(operand, in_condition)?)))
                    .collect::<Result<_>>()?,
            },
            Expr::Compare { op, left, right } => self.compare(*op, left, right)?,
            Expr::Match { left, regex, is_negated } => Node::Match {
                left: Box::new(self.bind(left, true)?),
                regex: regex.clone(),
                is_negated: *is_negated,
            },
            Expr::In { left, list, is_negated } => Node::In {
                left: Box::new(self.bind(left, true)?),
                list: list
                    .iter()
                    .map(|entry| match left.is_time() {
                        true => Ok(time_value(entry, &self.clock)?.map_or(Cell::Null, Cell::Int)),
                        false => Ok(constant(entry)),
                    })
                    .collect::<Result<_>>()?,
                is_negated: *is_negated,
            },
            Expr::All(parts) => Node::All(self.bind_all(parts)?),
            Expr::Any(parts) => Node::Any(self.bind_all(parts)?),
            Expr::Not(inner) => Node::Not(Box::new(self.bind(inner, true)?)),
            // Expanded before binding, or refused by the parser.
            Expr::Wildcard(_) | Expr::Regex(_) => Node::Const(Cell::Null),
        })
    }

    fn transform(&mut self, function: Transform, name: &str, of: &Expr) -> Result<Node> {
        let of = self.bind(of, false)?;
        if let Node::Column(place) = of
            && let Some(field) = self.fields.get(place)
            && matches!(field.field_type, FieldType::Str | FieldType::Bool)
            && !matches!(function, Transform::Elapsed { .. })
        {
            let (field, field_type) = (&field.name, field.field_type.name());
            let message = format!("{name}() is not for field \"{field}\" of type {field_type}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        self.transforms.push(BoundTransform { function, of });
        Ok(Node::Transform(self.transforms.len() - 1))
    }

    fn bind_all(&mut self, parts: &[Expr]) -> Result<Vec<Node>> {
        parts.iter().map(|part| self.bind(part, true)).collect()
    }

    fn compare(&mut self, op: Compare, left: &Expr, right: &Expr) -> Result<Node> {
        for (side, other) in [(left, right), (right, left)] {
            if side.is_time() {
                let Some(value_ns) = time_value(other, &self.clock)? else { continue };
                let op = if std::ptr::eq(side, left) { op } else { op.flipped() };
                let value = Box::new(Node::Const(Cell::Int(value_ns)));
                return Ok(Node::Compare { op, left: Box::new(Node::Time), right: value });
            }
        }
        if let Expr::Name(name) = right
            && name.is_quoted
            && self.schema.field(&name.text).is_none()
            && !self.has_tag(&name.text)
        {
            let (name, measurement) = (&name.text, &self.schema.name);
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "\"{name}\" is neither a field nor a tag of {measurement}; strings take single quotes: '{name}'"
                ),
            ));
        }
        let (left, right) = (Box::new(self.bind(left, true)?), Box::new(self.bind(right, true)?));
        Ok(Node::Compare { op, left, right })
    }

    fn has_tag(&self, key: &str) -> bool {
        self.schema.tag_keys.iter().any(|other| &**other == key)
    }

    fn name(&mut self, name: &Name, in_condition: bool) -> Node {
        let field = self.schema.field(&name.text).filter(|_| name.kind != NameKind::Tag).cloned();
        if name.kind == NameKind::Any && name.text.eq_ignore_ascii_case("time") {
            Node::Time
        } else if let Some(field) = field {
            Node::Column(self.column(&field))
        } else if name.kind == NameKind::Field {
            Node::Const(Cell::Null)
        } else if in_condition {
            Node::TagText(name.text.clone())
        } else {
            Node::Tag(name.text.clone())
        }
    }

    fn call(&mut self, call: &Call) -> Result<Node> {
        let Argument::Name(name) = &call.argument else { return Ok(Node::Const(Cell::Null)) };
        let field = self.schema.field(&name.text).filter(|_| name.kind != NameKind::Tag);
        if let Some(field) = field
            && !accepts(call.function, field.field_type)
        {
            let (function, field_type) = (&call.name, field.field_type.name());
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{function}() is not for field \"{}\" of type {field_type}", field.name),
            ));
        }
        if field.is_none() && self.has_tag(&name.text) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "{}() takes a field, and \"{}\" is a tag of {}",
                    call.name, name.text, self.schema.name
                ),
            ));
        }
        let bound = BoundCall { function: call.function, field: field.cloned(), by: call.by.clone() };
        let known = self.calls.iter().position(|other| *other == bound);
        Ok(Node::Call(known.unwrap_or_else(|| {
            self.calls.push(bound);
            self.calls.len() - 1
        })))
    }
}

fn constant(expr: &Expr) -> Cell {
    match expr {
        Expr::Text(text) => Cell::Text(text.clone()),
        Expr::Integer(value) => Cell::Int(*value),
        Expr::Float(value) => Cell::Float(*value),
        Expr::Bool(value) => Cell::Bool(*value),
        _ => Cell::Null,
    }
}

/// Whether a function takes fields of a type.
pub(crate) fn accepts(function: Function, field_type: FieldType) -> bool {
    match function {
        Function::Count | Function::First | Function::Last | Function::Sample(_) => true,
        Function::Min
        | Function::Max
        | Function::ErrorRate
        | Function::Uptime { .. }
        | Function::Downtime { .. } => field_type != FieldType::Str,
        Function::Distinct | Function::CountDistinct | Function::Mode | Function::Uniq => {
            field_type != FieldType::Bool
        }
        Function::Sum
        | Function::Mean
        | Function::Spread
        | Function::Stddev
        | Function::Integral { .. }
        | Function::FractionLe(_)
        | Function::Apdex(_)
        | Function::Top(_)
        | Function::Bottom(_)
        | Function::Quantile(_) => matches!(field_type, FieldType::Float | FieldType::Int | FieldType::UInt),
    }
}
