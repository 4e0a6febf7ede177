//! The table of functions: names, argument types, and what computes each.
//!
//! [`range`] holds the formulas over windows of numbers, [`native`] those over histograms, [`edges`] those
//! of `anchored` and `smoothed`, [`math`] those over single numbers and dates, [`classic`] those
//! over `le` buckets. Whatever needs labels or several series is [`Run::Special`] and lives in `eval`.

pub(crate) mod classic;
pub(crate) mod edges;
pub(crate) mod math;
pub(crate) mod native;
pub(crate) mod range;

use icecore_storage::model::Numbers;
use icecore_storage::scan::Window;
use jiff::civil::DateTime;

use super::ast::ValueType;
use super::ast::ValueType::{Matrix, Scalar, Text, Vector};
use range::RawWindow;

/// What computes a function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// From the numbers of a window, so that cells can answer.
    Window(fn(&Numbers, Window) -> Option<f64>),
    /// From the samples of a window: raw rows only.
    Samples(fn(&RawWindow<'_>) -> Option<f64>),
    /// From each number by itself.
    Map(fn(f64) -> f64),
    /// From each number by itself, as a date in UTC.
    Date(fn(DateTime) -> f64),
    /// By the evaluator.
    Special(Special),
}

/// Functions the evaluator computes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMax,
    ClampMin,
    End,
    HistogramAvg,
    HistogramCount,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramStddev,
    HistogramStdvar,
    HistogramSum,
    Info,
    LabelJoin,
    LabelReplace,
    MaxOf,
    MinOf,
    Pi,
    Range,
    Round,
    Scalar,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Start,
    StartTimestamp,
    Step,
    Time,
    Timestamp,
    Vector,
}

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: &'static str,
    /// Types of its arguments.
    pub(crate) args: &'static [ValueType],
    /// How many of the last ones may be left out.
    pub(crate) optional: usize,
    /// Whether the last one may be repeated.
    pub(crate) is_variadic: bool,
    /// Type of its value.
    pub(crate) returns: ValueType,
    /// What computes it.
    pub(crate) run: Run,
}

/// What a function takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Types of its arguments.
    pub args: &'static [ValueType],
    /// How many arguments may be left out or added, as Prometheus says it: -1 where the last one may be repeated.
    pub variadic: i32,
    /// Type of its value.
    pub returns: ValueType,
}

/// The signature of a function by its name.
pub fn signature(name: &str) -> Option<Signature> {
    let function = find(name)?;
    let variadic = match function.optional {
        // Quantiles are at most ten.
        _ if function.name == "histogram_quantiles" => 9,
        _ if function.is_variadic => -1,
        optional => i32::try_from(optional).unwrap_or(0),
    };
    Some(Signature { args: function.args, variadic, returns: function.returns })
}

/// The function of this name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const fn entry(name: &'static str, args: &'static [ValueType], run: Run) -> Function {
    Function { name, args, optional: 0, is_variadic: false, returns: Vector, run }
}

const fn window(name: &'static str, formula: fn(&Numbers, Window) -> Option<f64>) -> Function {
    entry(name, &[Matrix], Run::Window(formula))
}

const fn samples(
    name: &'static str,
    args: &'static [ValueType],
    formula: fn(&RawWindow<'_>) -> Option<f64>,
) -> Function {
    entry(name, args, Run::Samples(formula))
}

const fn map(name: &'static str, formula: fn(f64) -> f64) -> Function {
    entry(name, &[Vector], Run::Map(formula))
}

const fn date(name: &'static str, formula: fn(DateTime) -> f64) -> Function {
    Function { optional: 1, ..entry(name, &[Vector], Run::Date(formula)) }
}

const fn special(name: &'static str, args: &'static [ValueType], special: Special) -> Function {
    entry(name, args, Run::Special(special))
}

#[rustfmt::skip]
static TABLE: &[Function] = &[
    special("absent", &[Vector], Special::Absent),
    special("absent_over_time", &[Matrix], Special::AbsentOverTime),
    special("clamp", &[Vector, Scalar, Scalar], Special::Clamp),
    special("clamp_max", &[Vector, Scalar], Special::ClampMax),
    special("clamp_min", &[Vector, Scalar], Special::ClampMin),
    Function { returns: Scalar, ..special("end", &[], Special::End) },
    special("histogram_avg", &[Vector], Special::HistogramAvg),
    special("histogram_count", &[Vector], Special::HistogramCount),
    special("histogram_fraction", &[Scalar, Scalar, Vector], Special::HistogramFraction),
    special("histogram_quantile", &[Scalar, Vector], Special::HistogramQuantile),
    Function {
        optional: 1, is_variadic: true,
        ..special("histogram_quantiles", &[Vector, Text, Scalar, Scalar], Special::HistogramQuantiles)
    },
    special("histogram_stddev", &[Vector], Special::HistogramStddev),
    special("histogram_stdvar", &[Vector], Special::HistogramStdvar),
    special("histogram_sum", &[Vector], Special::HistogramSum),
    Function { optional: 1, ..special("info", &[Vector, Vector], Special::Info) },
    Function {
        optional: 1, is_variadic: true,
        ..special("label_join", &[Vector, Text, Text, Text], Special::LabelJoin)
    },
    special("label_replace", &[Vector, Text, Text, Text, Text], Special::LabelReplace),
    Function { returns: Scalar, ..special("max_of", &[Scalar, Scalar], Special::MaxOf) },
    Function { returns: Scalar, ..special("min_of", &[Scalar, Scalar], Special::MinOf) },
    Function { returns: Scalar, ..special("pi", &[], Special::Pi) },
    Function { returns: Scalar, ..special("range", &[], Special::Range) },
    Function { optional: 1, ..special("round", &[Vector, Scalar], Special::Round) },
    Function { returns: Scalar, ..special("scalar", &[Vector], Special::Scalar) },
    special("sort", &[Vector], Special::Sort),
    Function {
        optional: 1, is_variadic: true, ..special("sort_by_label", &[Vector, Text], Special::SortByLabel)
    },
    Function {
        optional: 1, is_variadic: true, ..special("sort_by_label_desc", &[Vector, Text], Special::SortByLabelDesc)
    },
    special("sort_desc", &[Vector], Special::SortDesc),
    Function { returns: Scalar, ..special("start", &[], Special::Start) },
    special("start_timestamp", &[Vector], Special::StartTimestamp),
    Function { returns: Scalar, ..special("step", &[], Special::Step) },
    Function { returns: Scalar, ..special("time", &[], Special::Time) },
    special("timestamp", &[Vector], Special::Timestamp),
    special("vector", &[Scalar], Special::Vector),

    window("avg_over_time", range::avg),
    window("changes", range::changes),
    window("count_over_time", range::count),
    window("delta", range::delta),
    window("first_over_time", range::first),
    window("increase", range::increase),
    window("last_over_time", range::last),
    window("max_over_time", range::max),
    window("min_over_time", range::min),
    window("present_over_time", range::present),
    window("rate", range::rate),
    window("resets", range::resets),
    window("stddev_over_time", range::stddev),
    window("stdvar_over_time", range::stdvar),
    window("sum_over_time", range::sum),
    window("ts_of_first_over_time", range::ts_of_first),
    window("ts_of_last_over_time", range::ts_of_last),

    samples("deriv", &[Matrix], range::deriv),
    samples("double_exponential_smoothing", &[Matrix, Scalar, Scalar], range::smooth),
    samples("idelta", &[Matrix], range::idelta),
    samples("irate", &[Matrix], range::irate),
    samples("mad_over_time", &[Matrix], range::mad),
    samples("predict_linear", &[Matrix, Scalar], range::predict_linear),
    samples("quantile_over_time", &[Scalar, Matrix], range::quantile_over_time),
    samples("ts_of_max_over_time", &[Matrix], range::ts_of_max),
    samples("ts_of_min_over_time", &[Matrix], range::ts_of_min),

    map("abs", f64::abs),
    map("acos", f64::acos),
    map("acosh", f64::acosh),
    map("asin", f64::asin),
    map("asinh", f64::asinh),
    map("atan", f64::atan),
    map("atanh", f64::atanh),
    map("ceil", f64::ceil),
    map("cos", f64::cos),
    map("cosh", f64::cosh),
    map("deg", math::deg),
    map("exp", f64::exp),
    map("floor", f64::floor),
    map("ln", f64::ln),
    map("log10", f64::log10),
    map("log2", f64::log2),
    map("rad", math::rad),
    map("sgn", math::sgn),
    map("sin", f64::sin),
    map("sinh", f64::sinh),
    map("sqrt", f64::sqrt),
    map("tan", f64::tan),
    map("tanh", f64::tanh),

    date("day_of_month", |date| f64::from(date.day())),
    date("day_of_week", |date| f64::from(date.weekday().to_sunday_zero_offset())),
    date("day_of_year", |date| f64::from(date.day_of_year())),
    date("days_in_month", |date| f64::from(date.days_in_month())),
    date("hour", |date| f64::from(date.hour())),
    date("minute", |date| f64::from(date.minute())),
    date("month", |date| f64::from(date.month())),
    date("year", |date| f64::from(date.year())),
];
