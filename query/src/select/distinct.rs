//! `distinct()` and `count(distinct())` of texts over a whole range, which storage tells from codes: no row is looked at.

use icecore_storage::model::FieldType;
use icecore_storage::scan::{Coverage, Distinct, DistinctRequest};

use super::Context;
use super::analyze::Plan;
use super::ast::Function;
use super::frame::{Buckets, Frame};
use super::rows::charge_distinct;
use super::run::Groups;
use super::scalar::{Cell, row_bytes};
use crate::Result;
use crate::budget::Held;

/// Whether storage can answer the calls of a plan: one call over a field of texts, all rows, one bucket.
pub(crate) fn can_answer(plan: &Plan<'_>, frame: &Frame<'_>) -> bool {
    let is_of_texts = match &*plan.binder.calls {
        [call] => {
            matches!(call.function, Function::Distinct | Function::CountDistinct)
                && call.field.as_ref().is_some_and(|field| field.field_type == FieldType::Str)
        }
        _ => false,
    };
    is_of_texts && plan.filter.row_tests.is_empty() && frame.interval.is_none()
}

/// How many distinct texts each group has.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read_counts(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Buckets>> {
    let (found, _held) = read(context, plan, groups, frame, coverage)?;
    let at_ns = frame.bucket(frame.start_ns);
    let mut answer = vec![Buckets::new(); groups.len()];
    for (group, buckets) in answer.iter_mut().enumerate() {
        let count = i64::try_from(found.count(group)).unwrap_or(i64::MAX);
        if 0 < count {
            context.budget.charge_points(1)?;
            context.budget.charge_bytes(row_bytes(plan.items.len()))?;
            buckets.insert(at_ns, vec![Cell::Int(count)]);
        }
    }
    Ok(answer)
}

/// The distinct texts of each group, sorted: rows of time and text.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read_texts(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Vec<Vec<Cell>>>> {
    let (found, _held) = read(context, plan, groups, frame, coverage)?;
    let at_ns = frame.bucket(frame.start_ns);
    let mut answer = Vec::with_capacity(groups.len());
    for group in 0..groups.len() {
        let text_bytes = found.texts_of(group).map(|text| text.len() as u64).sum();
        charge_distinct(context, found.count(group), text_bytes)?;
        let mut texts: Vec<&str> = found.texts_of(group).collect();
        texts.sort_unstable();
        answer.push(
            texts.into_iter().map(|text| vec![Cell::Time(at_ns), Cell::Text(text.to_owned())]).collect(),
        );
    }
    Ok(answer)
}

fn read<'a>(
    context: &Context<'a>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<(Distinct, Held<'a>)> {
    let budget = context.budget;
    let Some(field) = plan.binder.calls.first().and_then(|call| call.field.as_ref()) else {
        return Ok((Distinct::default(), budget.hold_bytes(0)?));
    };
    let request = DistinctRequest {
        measurement: plan.schema.measurement,
        field: field.id,
        series: groups.ids(),
        range: frame.range,
        groups: &groups.owners(),
        group_count: groups.len(),
    };
    let (found, read) = budget.scanned(context.scan.distinct(&request, budget))?;
    coverage.absorb(&read);
    let held = budget.hold_bytes(found.bytes())?;
    Ok((found, held))
}
