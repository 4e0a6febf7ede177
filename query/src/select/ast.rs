//! What a statement says, as the parser understood it. Names are not yet fields or tags, and `now()` has no value.
//!
//! Chains of one precedence (`a AND b AND c`, `x + y - z`) are flat lists, so the depth of a tree is bounded by the
//! nesting that the parser allows and no walk over it can use up the stack.

use jiff::tz::TimeZone;
use regex::Regex;

use super::time::Clock;

/// One parsed statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// `SELECT ...`
    Select(Box<Select>),
    /// `SHOW DATABASES`; answered by the caller.
    ShowDatabases,
    /// `SHOW MEASUREMENTS ...`
    ShowMeasurements {
        /// Its clauses.
        show: Show,
    },
    /// `SHOW TAG KEYS ...`
    ShowTagKeys {
        /// Its clauses.
        show: Show,
    },
    /// `SHOW TAG VALUES ... WITH KEY ...`
    ShowTagValues {
        /// Its clauses.
        show: Show,
    },
    /// `SHOW FIELD KEYS ...`
    ShowFieldKeys {
        /// Its clauses.
        show: Show,
    },
    /// `SHOW SERIES ...`
    ShowSeries {
        /// Its clauses.
        show: Show,
    },
    /// `SHOW SERIES CARDINALITY` and its like: how many there are. All are counted, also without EXACT.
    ShowCardinality {
        /// What is counted.
        what: Counted,
        /// Whether EXACT was asked for, which for series gives a number for each measurement.
        is_exact: bool,
        /// Its clauses.
        show: Show,
    },
    /// `EXPLAIN [ANALYZE] SELECT ...`
    Explain {
        /// The statement.
        select: Box<Select>,
        /// Whether it is executed.
        is_executed: bool,
    },
    /// `SHOW RETENTION POLICIES [ON db]`; answered by the caller.
    ShowRetentionPolicies {
        /// The database named by ON.
        database: Option<String>,
    },
    /// `DROP MEASUREMENT name`, `DROP SERIES ...` or `DELETE ...`; carried out by the caller, who asks
    /// [`chosen`](super::chosen) for what is meant.
    Delete {
        /// Its clauses.
        delete: Delete,
    },
    /// `DROP DATABASE name`; answered by the caller.
    DropDatabase {
        /// The name.
        name: String,
    },
    /// `CREATE DATABASE name`; answered by the caller.
    CreateDatabase {
        /// The name.
        name: String,
    },
}

impl Statement {
    /// The database that the statement itself names, by `ON db` or `FROM db..m`.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Select(select) | Self::Explain { select, .. } => database_of(&select.sources),
            Self::ShowMeasurements { show }
            | Self::ShowTagKeys { show }
            | Self::ShowTagValues { show }
            | Self::ShowFieldKeys { show }
            | Self::ShowCardinality { show, .. }
            | Self::ShowSeries { show } => show.database.as_deref().or_else(|| database_of(&show.sources)),
            Self::ShowRetentionPolicies { database } => database.as_deref(),
            Self::Delete { delete } => database_of(&delete.sources),
            Self::ShowDatabases | Self::CreateDatabase { .. } | Self::DropDatabase { .. } => None,
        }
    }

    /// Whether it takes data away.
    pub fn is_delete(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::DropDatabase { .. })
    }
}

/// What a statement counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Series.
    Series,
    /// Measurements.
    Measurements,
    /// Tag keys of each measurement.
    TagKeys,
    /// Values of tags of each measurement.
    TagValues,
    /// Field keys of each measurement.
    FieldKeys,
}

fn database_of(sources: &[Source]) -> Option<&str> {
    sources.iter().find_map(Source::database)
}

/// A SELECT statement.
#[derive(Debug, Clone)]
pub struct Select {
    pub(crate) items: Vec<Item>,
    pub(crate) sources: Vec<Source>,
    pub(crate) condition: Option<Expr>,
    pub(crate) interval: Option<Interval>,
    pub(crate) dimensions: Vec<Dimension>,
    /// Tested on rows of the answer.
    pub(crate) having: Option<Expr>,
    pub(crate) fill: Fill,
    pub(crate) order: Order,
    /// A column of the answer to order by in place of time.
    pub(crate) order_column: Option<String>,
    pub(crate) page: Page,
    pub(crate) series_page: Page,
    /// `tz('Europe/Berlin')`: whose days and hours buckets follow, and texts of times are meant in.
    pub(crate) zone: Option<TimeZone>,
}

impl Select {
    /// What its texts of times and `now()` mean.
    pub(crate) fn clock(&self, now_ns: i64) -> Clock {
        Clock { now_ns, zone: self.zone.clone().unwrap_or(TimeZone::UTC) }
    }
}

/// The clauses that SHOW statements share.
#[derive(Debug, Clone, Default)]
pub struct Show {
    pub(crate) database: Option<String>,
    pub(crate) sources: Vec<Source>,
    /// WITH MEASUREMENT or WITH KEY.
    pub(crate) names: Option<NameTest>,
    pub(crate) condition: Option<Expr>,
    pub(crate) page: Page,
}

/// The clauses of statements that delete rows.
#[derive(Debug, Clone, Default)]
pub struct Delete {
    /// None: all measurements.
    pub(crate) sources: Vec<Source>,
    pub(crate) condition: Option<Expr>,
    /// Whether the condition may bound time: DELETE, but not DROP SERIES.
    pub(crate) takes_time: bool,
}

/// LIMIT and OFFSET.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Page {
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

impl Page {
    /// How many rows from the start are enough to cut the page; `None`: all.
    pub(crate) fn needed(&self) -> Option<usize> {
        self.limit.map(|limit| limit.saturating_add(self.offset))
    }

    /// Cuts the page out of all rows.
    pub(crate) fn cut<T>(&self, rows: Vec<T>) -> Vec<T> {
        rows.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}

/// What names a SHOW statement wants.
#[derive(Debug, Clone)]
pub(crate) enum NameTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Matches(Regex),
    Differs(Regex),
}

impl NameTest {
    pub(crate) fn accepts(&self, name: &str) -> bool {
        match self {
            Self::In(names) => names.iter().any(|other| other == name),
            Self::NotIn(names) => names.iter().all(|other| other != name),
            Self::Matches(regex) => regex.is_match(name),
            Self::Differs(regex) => !regex.is_match(name),
        }
    }
}

/// One entry of the SELECT list.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) expr: Expr,
    pub(crate) alias: Option<String>,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Measurement {
        database: Option<String>,
        measurement: Pattern,
    },
    /// `(SELECT ...)`
    Query(Box<Select>),
}

impl Source {
    /// The database that it names.
    pub(crate) fn database(&self) -> Option<&str> {
        match self {
            Self::Measurement { database, .. } => database.as_deref(),
            Self::Query(select) => database_of(&select.sources),
        }
    }
}

/// A name or a regular expression over names.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Name(String),
    Regex(Regex),
}

/// `GROUP BY time(every, offset)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    /// Width of a bucket, above zero.
    pub(crate) every_ns: i64,
    /// Shift of the bucket edges against the epoch, in `[0, every_ns)`.
    pub(crate) offset_ns: i64,
}

/// Tags to group by.
#[derive(Debug, Clone)]
pub(crate) enum Dimension {
    Tag(String),
    All,
    Regex(Regex),
}

/// What stands in buckets without data.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Fill {
    #[default]
    Null,
    None,
    Previous,
    Linear,
    Value(f64),
}

/// Order of rows by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    #[default]
    Ascending,
    Descending,
}

/// What a name is said to be by `::tag` or `::field`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    Any,
    Field,
    Tag,
}

/// A name of a field, a tag or the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) kind: NameKind,
    pub(crate) is_quoted: bool,
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Function {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    First,
    Last,
    Spread,
    Stddev,
    /// Nearest rank from the histogram; the share in `[0, 1]`.
    Quantile(f64),
    Mode,
    Distinct,
    CountDistinct,
    /// The area under the values, over units of time.
    Integral {
        unit_ns: i64,
    },
    /// The share of time in which a row that is up came no longer ago than this.
    Uptime {
        alive_ns: i64,
    },
    /// The seconds in which none did.
    Downtime {
        alive_ns: i64,
    },
    /// The rows with so many of the largest values.
    Top(usize),
    /// The rows with so many of the smallest values.
    Bottom(usize),
    /// So many rows by chance.
    Sample(usize),
    /// The share of values that are at most this.
    FractionLe(f64),
    /// Apdex for this threshold.
    Apdex(f64),
    /// The share of values that are not zero.
    ErrorRate,
    /// About how many distinct values, from a sketch.
    Uniq,
}

impl Function {
    /// Whether the result is a float, whatever the type of the field.
    pub(crate) fn gives_float(self) -> bool {
        matches!(
            self,
            Self::Mean
                | Self::Stddev
                | Self::Quantile(_)
                | Self::Integral { .. }
                | Self::Uptime { .. }
                | Self::Downtime { .. }
                | Self::ErrorRate
                | Self::FractionLe(_)
                | Self::Apdex(_)
        )
    }

    /// Whether the result comes from rows in the order of their times, and not from each alone.
    pub(crate) fn needs_order(self) -> bool {
        matches!(self, Self::Integral { .. } | Self::Uptime { .. } | Self::Downtime { .. })
    }

    /// Whether the result is several rows, each with its own time.
    pub(crate) fn picks_several(self) -> bool {
        matches!(self, Self::Top(_) | Self::Bottom(_) | Self::Sample(_))
    }

    /// Whether the result is one of the rows, so that alone it carries the row's time.
    pub(crate) fn is_selector(self) -> bool {
        matches!(self, Self::Min | Self::Max | Self::First | Self::Last)
    }
}

/// What an aggregate is taken of.
#[derive(Debug, Clone)]
pub(crate) enum Argument {
    Name(Name),
    Wildcard,
    Regex(Regex),
}

/// A function of the numbers of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Math {
    Abs,
    Acos,
    Asin,
    Atan,
    Atan2,
    Ceil,
    Cos,
    Exp,
    Floor,
    Ln,
    Log,
    Log2,
    Log10,
    Pow,
    Round,
    Sin,
    Sqrt,
    Tan,
}

/// A function of a column's values, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Transform {
    /// Change per unit of time; without one the width of a bucket, or a second.
    Derivative {
        unit_ns: Option<i64>,
        is_non_negative: bool,
    },
    Difference {
        is_non_negative: bool,
    },
    /// Mean of so many values.
    MovingAverage(usize),
    CumulativeSum,
    /// Time since the value before, in whole units.
    Elapsed {
        unit_ns: i64,
    },
}

impl Transform {
    /// How many buckets before the first one have a say in it.
    pub(crate) fn buckets_before(self) -> usize {
        match self {
            Self::Derivative { .. } | Self::Difference { .. } | Self::Elapsed { .. } => 1,
            Self::MovingAverage(count) => count.saturating_sub(1),
            Self::CumulativeSum => 0,
        }
    }
}

/// A call of an aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: Function,
    /// The name as typed, in lower case: the column's name.
    pub(crate) name: String,
    pub(crate) argument: Argument,
    /// Tags of which each combination gives a row at most: of top and bottom.
    pub(crate) by: Vec<String>,
}

/// Arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Compare {
    /// The operator with both sides exchanged.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Eq => Self::Eq,
            Self::Ne => Self::Ne,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
        }
    }
}

/// An expression of the SELECT list or of WHERE.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Name(Name),
    Wildcard(NameKind),
    Regex(Regex),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Duration(i64),
    Now,
    Call(Call),
    Math {
        function: Math,
        name: String,
        args: Vec<Expr>,
    },
    /// A transformation of a field or an aggregate.
    Transform {
        function: Transform,
        name: String,
        of: Box<Expr>,
    },
    Arith {
        first: Box<Expr>,
        rest: Vec<(Arith, Expr)>,
    },
    Compare {
        op: Compare,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Match {
        left: Box<Expr>,
        regex: Regex,
        is_negated: bool,
    },
    In {
        left: Box<Expr>,
        list: Vec<Expr>,
        is_negated: bool,
    },
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
}

impl Expr {
    /// Whether the expression is the time of the row.
    pub(crate) fn is_time(&self) -> bool {
        matches!(self, Self::Name(name) if name.kind == NameKind::Any && name.text.eq_ignore_ascii_case("time"))
    }
}
