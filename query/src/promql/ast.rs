//! The tree of a PromQL expression. Every node knows the bytes of the text it stands for.
//!
//! Built only by the [parser](super::parse), which bounds its height, so that walking and dropping it by recursion
//! is safe. Knows nothing of data.

use std::fmt;

use super::pattern::Pattern;
use super::value::Labels;

pub use super::duration::{Computed, Duration, DurationKind};

/// Type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One float.
    Scalar,
    /// One sample for each of some series.
    Vector,
    /// Many samples for each of some series.
    Matrix,
    /// A text.
    Text,
}

impl fmt::Display for ValueType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        })
    }
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its first byte in the text.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
    /// Nodes on the longest way down, bounded by the parser.
    pub(crate) height: usize,
}

impl Expr {
    /// All selectors in it, from left to right.
    pub fn selectors(&self) -> Vec<&Selector> {
        let mut found = Vec::new();
        self.add_selectors(&mut found);
        found
    }

    fn add_selectors<'e>(&'e self, found: &mut Vec<&'e Selector>) {
        if let ExprKind::Selector(selector) | ExprKind::Range { selector, .. } = &self.kind {
            found.push(selector);
        }
        self.children().into_iter().for_each(|child| child.add_selectors(found));
    }

    /// Whether some node of it passes.
    pub(crate) fn any(&self, passes: &dyn Fn(&Self) -> bool) -> bool {
        passes(self) || self.children().into_iter().any(|child| child.any(passes))
    }

    /// The nodes below it, from left to right.
    fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number { .. }
            | ExprKind::Text(_)
            | ExprKind::Bytes(_)
            | ExprKind::Selector(_)
            | ExprKind::Range { .. } => Vec::new(),
            ExprKind::Subquery { expr, .. } | ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } => {
                vec![expr]
            }
            ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
            ExprKind::Aggregate(aggregate) => aggregate.parameter.iter().chain([&aggregate.expr]).collect(),
            ExprKind::Call { args, .. } => args.iter().collect(),
        }
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// A number.
    Number {
        /// The number; of a duration, its seconds.
        value: f64,
        /// Whether it was written as a duration.
        is_duration: bool,
    },
    /// A string.
    Text(String),
    /// A string that is not UTF-8. No label and no answer can hold it.
    Bytes(Vec<u8>),
    /// An instant vector selector.
    Selector(Selector),
    /// A range vector selector.
    Range {
        /// What to read.
        selector: Selector,
        /// Width of the window.
        range_ns: i64,
    },
    /// `expr[range:step]`.
    Subquery {
        /// The inner expression.
        expr: Box<Expr>,
        /// Width of the window.
        range_ns: i64,
        /// Distance of the inner evaluations; `None`: the default.
        step_ns: Option<i64>,
        /// Where the window lies.
        shift: Shift,
        /// What waits for the step and the range of the query; until then the numbers beside it mean nothing.
        computed: Option<Box<Computed>>,
    },
    /// `(expr)`.
    Paren(Box<Expr>),
    /// `-expr` or `+expr`.
    Unary {
        /// Whether the sign is a minus.
        is_minus: bool,
        /// The operand.
        expr: Box<Expr>,
    },
    /// `left op right`.
    Binary(Box<Binary>),
    /// `op by (labels) (parameter, expr)`.
    Aggregate(Box<Aggregate>),
    /// `function(arguments)`.
    Call {
        /// Name of the function, as in the table.
        name: &'static str,
        /// The arguments.
        args: Vec<Expr>,
    },
}

/// A binary operation.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Comparison gives 0 and 1 instead of filtering.
    pub is_bool: bool,
    /// How series of both sides find each other.
    pub matching: Matching,
    /// Left operand.
    pub left: Expr,
    /// Right operand.
    pub right: Expr,
}

impl Binary {
    /// Whether it is a comparison that keeps the samples for which it holds.
    pub(crate) fn is_filter(&self) -> bool {
        self.op.is_comparison() && !self.is_bool
    }

    /// Whether its results keep the name of the metric.
    pub(crate) fn keeps_name(&self) -> bool {
        self.is_filter() || self.op.is_trim()
    }
}

/// An aggregation.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// `by` or `without`.
    pub is_without: bool,
    /// The labels of the clause.
    pub grouping: Vec<String>,
    /// The parameter of `topk` and its kind.
    pub parameter: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its sign")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    TrimAbove,
    TrimBelow,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// All with their signs.
    const ALL: [(Self, &'static str); 18] = [
        (Self::Add, "+"),
        (Self::Sub, "-"),
        (Self::Mul, "*"),
        (Self::Div, "/"),
        (Self::Mod, "%"),
        (Self::Pow, "^"),
        (Self::Atan2, "atan2"),
        (Self::Equal, "=="),
        (Self::NotEqual, "!="),
        (Self::Less, "<"),
        (Self::LessEqual, "<="),
        (Self::Greater, ">"),
        (Self::GreaterEqual, ">="),
        (Self::TrimAbove, "</"),
        (Self::TrimBelow, ">/"),
        (Self::And, "and"),
        (Self::Or, "or"),
        (Self::Unless, "unless"),
    ];

    /// The operator of a sign or word (any case).
    pub(crate) fn from_sign(sign: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| own.eq_ignore_ascii_case(sign)).map(|(op, _)| *op)
    }

    /// The sign.
    pub fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, sign)| sign)
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether it cuts off values of a histogram.
    pub fn is_trim(self) -> bool {
        matches!(self, Self::TrimAbove | Self::TrimBelow)
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How strongly it binds, from 1.
    pub(crate) fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            _ if self.is_comparison() || self.is_trim() => 3,
            Self::Add | Self::Sub => 4,
            Self::Pow => 6,
            _ => 5,
        }
    }
}

/// How many series of each side may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// Each series meets at most one.
    #[default]
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
}

/// How series of both sides find each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// `on` instead of `ignoring`.
    pub is_on: bool,
    /// The labels of the clause.
    pub labels: Vec<String>,
    /// Many-to-one.
    pub cardinality: Cardinality,
    /// Labels taken from the side of one.
    pub include: Vec<String>,
    /// What stands for series that are missing.
    pub fill: Fill,
}

/// Numbers that stand for series without a partner.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fill {
    /// On the left.
    pub left: Option<f64>,
    /// On the right.
    pub right: Option<f64>,
}

impl Fill {
    /// Whether none is filled.
    pub fn is_empty(self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

/// Operators over the series of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its name")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Sum, "sum"),
        (Self::Avg, "avg"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Count, "count"),
        (Self::Group, "group"),
        (Self::Stddev, "stddev"),
        (Self::Stdvar, "stdvar"),
        (Self::Topk, "topk"),
        (Self::Bottomk, "bottomk"),
        (Self::Quantile, "quantile"),
        (Self::CountValues, "count_values"),
        (Self::Limitk, "limitk"),
        (Self::LimitRatio, "limit_ratio"),
    ];

    /// The operator of a name (any case).
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| own.eq_ignore_ascii_case(name)).map(|(op, _)| *op)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }

    /// The type of the parameter, if there is one.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::Text),
            _ => None,
        }
    }
}

/// Where a selector looks in time, beside the evaluation time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    /// `offset`: looks this much earlier.
    pub offset_ns: i64,
    /// `@`: instead of the evaluation time.
    pub at: Option<At>,
}

/// A fixed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nanoseconds UTC.
    Time(i64),
    /// The first step of the query.
    Start,
    /// The last step of the query.
    End,
}

/// An instant vector selector.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// The metric name before the braces or quoted within.
    pub name: Option<String>,
    /// The matchers in braces.
    pub matchers: Vec<Matcher>,
    /// Where it looks.
    pub shift: Shift,
    /// What stands for the values at the edges of a window.
    pub edge: Edge,
    /// Durations that wait for the step and the range of the query, that of the range around it among them.
    pub computed: Option<Box<Computed>>,
}

impl Selector {
    /// Whether a series with these labels is one of those that it names.
    pub fn accepts(&self, labels: &Labels) -> bool {
        self.name.as_ref().is_none_or(|name| name == labels.name())
            && self.matchers.iter().all(|matcher| matcher.accepts(labels.get(&matcher.label)))
    }
}

/// What stands for the values at the edges of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edge {
    /// The samples inside.
    #[default]
    Inside,
    /// The last sample before the window stands for the left edge.
    Anchored,
    /// Lines between the samples around the edges.
    Smoothed,
}

impl Edge {
    /// The modifier; empty where there is none.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inside => "",
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }

    /// The functions that take it, by name.
    pub(crate) fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Inside => &[],
            Self::Anchored => &["changes", "delta", "increase", "rate", "resets"],
            Self::Smoothed => &["delta", "increase", "rate"],
        }
    }
}

/// A test on a label.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// The test.
    pub op: MatchOp,
    /// The text or the pattern.
    pub value: String,
    /// The pattern of the two regular expression tests.
    pub(crate) pattern: Option<Pattern>,
}

impl Matcher {
    /// The texts of which a value must be one, where the test says so.
    pub(crate) fn one_of(&self) -> Option<&[String]> {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => Some(std::slice::from_ref(&self.value)),
            (MatchOp::Regex, Some(Pattern::OneOf(texts))) => Some(texts),
            _ => None,
        }
    }

    /// Whether a value (empty: absent) passes.
    pub fn accepts(&self, value: &str) -> bool {
        let is_match = || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(value));
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => is_match(),
            MatchOp::NotRegex => !is_match(),
        }
    }
}

/// The test of a matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

impl Expr {
    /// The expression without the parentheses around it.
    pub fn unwrapped(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}
