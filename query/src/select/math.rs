//! Functions of the numbers of one row.

use super::ast::Math;
use super::scalar::Scalar;

/// The value of a function; null where it has none, for texts and booleans, and where an argument is null. `abs`, `ceil`,
/// `floor` and `round` of integers are integers, all else is a float. `round` goes away from zero at halves.
pub(crate) fn math<'a>(function: Math, first: Scalar<'_>, second: Scalar<'_>) -> Scalar<'a> {
    match (function, first) {
        (Math::Abs, Scalar::Int(value)) => return value.checked_abs().map_or(Scalar::Null, Scalar::Int),
        (Math::Ceil | Math::Floor | Math::Round, Scalar::Int(value)) => return Scalar::Int(value),
        (Math::Abs | Math::Ceil | Math::Floor | Math::Round, Scalar::UInt(value)) => {
            return Scalar::UInt(value);
        }
        _ => {}
    }
    let Some(value) = first.number() else { return Scalar::Null };
    let two = |of: fn(f64, f64) -> f64| second.number().map_or(f64::NAN, |second| of(value, second));
    let result = match function {
        Math::Abs => value.abs(),
        Math::Acos => value.acos(),
        Math::Asin => value.asin(),
        Math::Atan => value.atan(),
        Math::Atan2 => two(f64::atan2),
        Math::Ceil => value.ceil(),
        Math::Cos => value.cos(),
        Math::Exp => value.exp(),
        Math::Floor => value.floor(),
        Math::Ln => value.ln(),
        Math::Log => two(f64::log),
        Math::Log2 => value.log2(),
        Math::Log10 => value.log10(),
        Math::Pow => two(f64::powf),
        Math::Round => value.round(),
        Math::Sin => value.sin(),
        Math::Sqrt => value.sqrt(),
        Math::Tan => value.tan(),
    };
    if result.is_finite() { Scalar::Float(result) } else { Scalar::Null }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn math_keeps_integers_where_they_stay_whole() {
        let nothing = Scalar::Null;
        let cases = [
            (Math::Abs, Scalar::Int(-3), nothing, Scalar::Int(3)),
            (Math::Abs, Scalar::Int(i64::MIN), nothing, Scalar::Null),
            (Math::Round, Scalar::Float(-2.5), nothing, Scalar::Float(-3.0)),
            (Math::Ceil, Scalar::UInt(7), nothing, Scalar::UInt(7)),
            (Math::Sqrt, Scalar::Int(9), nothing, Scalar::Float(3.0)),
            (Math::Sqrt, Scalar::Int(-9), nothing, Scalar::Null),
            (Math::Ln, Scalar::Float(0.0), nothing, Scalar::Null),
            (Math::Pow, Scalar::Int(2), Scalar::Float(0.5), Scalar::Float(2f64.sqrt())),
            (Math::Log, Scalar::Int(8), Scalar::Int(2), Scalar::Float(3.0)),
            (Math::Pow, Scalar::Int(2), nothing, Scalar::Null),
            (Math::Abs, Scalar::Text("x"), nothing, Scalar::Null),
        ];
        for (function, first, second, expected) in cases {
            assert_eq!(math(function, first, second), expected, "{function:?} of {first:?} and {second:?}");
        }
    }
}
