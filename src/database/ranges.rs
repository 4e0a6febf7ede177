//! Range queries, and what is kept of their answers.
//!
//! Order: a view; the key, where the query is steady; what is kept and still holds for the view; the steps that are missing;
//! both as one answer, which is kept in turn. What is taken from there is charged as if it were evaluated.

use std::sync::atomic::Ordering;

use icecore_query::Budget;
use icecore_query::promql::{self, Answer, MatrixSeries, QueryValue, answer_bytes};
use icecore_storage::engine::Seen;
use icecore_storage::scan::Coverage;

use super::{Database, Query, Steps, promql_context};
use crate::results::reuse::{self, Reuse, Span};
use crate::results::{Key, Outcome, ResultStats};
use crate::{Error, Result};

/// Evaluates some steps.
type Evaluate<'a> = dyn Fn(Steps) -> icecore_query::Result<Answer> + 'a;

/// A query whose answer may be kept.
struct Asked {
    key: Key,
    wanted: Span,
}

impl Query {
    /// Steps of a range query that were answered before and not evaluated again.
    pub fn reused_steps(&self) -> u64 {
        self.reused_steps.load(Ordering::Relaxed)
    }
}

impl Database {
    /// Evaluates PromQL at `start_ns`, `start_ns + step_ns` and so on up to `end_ns`. Steps that were answered before are
    /// used again while nothing came or went that they depend on ([`Limits::results_bytes_max`](crate::Limits::results_bytes_max)).
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn promql_range(&self, text: &str, start_ns: i64, end_ns: i64, step_ns: i64) -> Result<Answer> {
        self.run_promql_range(&self.query(self.query_options), text, Steps { start_ns, end_ns, step_ns })
    }

    /// [`Database::promql_range`] on an account of the caller.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn run_promql_range(&self, query: &Query, text: &str, steps: Steps) -> Result<Answer> {
        let Steps { start_ns, end_ns, step_ns } = steps;
        if step_ns <= 0 {
            return Err(Error::invalid("step must be positive"));
        }
        if end_ns < start_ns {
            return Err(Error::invalid("end lies before start"));
        }
        let (view, seen) = self.engine.view_seen();
        let context = promql_context(view.as_ref(), query);
        let evaluate = |Steps { start_ns, end_ns, step_ns }: Steps| {
            promql::range(&context, text, start_ns, end_ns, step_ns)
        };
        let Some(asked) = self.asked(query, text, steps) else {
            self.results.count(Outcome::Bypass, 0);
            return Ok(evaluate(steps)?);
        };
        self.answer(query, seen, asked, &evaluate)
    }

    /// What became of range queries to all databases of the directory, and what of their answers is kept.
    pub fn result_stats(&self) -> ResultStats {
        self.results.stats()
    }

    /// What its answer goes by; `None` when that is not kept, also because there is none.
    fn asked(&self, query: &Query, text: &str, steps: Steps) -> Option<Asked> {
        let Steps { start_ns, end_ns, step_ns } = steps;
        let (limits, options) = (query.budget.limits(), query.options);
        let wanted = Span::of(start_ns, end_ns, step_ns)?;
        let is_wanted = self.results.is_on()
            && options.may_reuse
            && wanted.count(step_ns) <= limits.steps_max
            && text.len() <= limits.text_bytes_max
            && promql::parse(text).is_ok_and(|expr| expr.is_steady());
        is_wanted.then(|| {
            let key = Key {
                database: self.number,
                text: text.into(),
                step_ns,
                phase_ns: start_ns.rem_euclid(step_ns),
                lookback: options.lookback,
                resolution: options.resolution,
            };
            Asked { key, wanted }
        })
    }

    fn answer(&self, query: &Query, seen: Seen, asked: Asked, evaluate: &Evaluate<'_>) -> Result<Answer> {
        let Asked { key, wanted } = asked;
        let step_ns = key.step_ns;
        let kept = self.results.find(&key);
        // What is kept, and those of its steps that hold for the view.
        let held = kept.as_deref().and_then(|kept| {
            let same_before_ns = self.engine.same_before_ns(kept.seen, seen);
            Some((kept, kept.span.before(same_before_ns, step_ns)?))
        });
        let plan = reuse::plan(wanted, held.map(|(_, span)| span), step_ns);
        self.count(query, plan, wanted, step_ns);
        let missing = match (plan, held) {
            (Reuse::All, Some((kept, _))) => {
                charge(&query.budget, &kept.series, wanted, &[])?;
                return Ok(answer_of(reuse::cut(&kept.series, wanted)));
            }
            (Reuse::Part { missing, .. }, _) => missing,
            (Reuse::All | Reuse::Nothing, _) => wanted,
        };
        let answer = evaluate(Steps { start_ns: missing.first_ns, end_ns: missing.last_ns, step_ns })?;
        let QueryValue::Matrix(mut series) = answer.value else { return Ok(answer) };
        let mut span = wanted;
        let mut copied = query.budget.hold_bytes(0)?;
        if let (Reuse::Part { found, .. }, Some((kept, valid))) = (plan, held) {
            span = reuse::to_keep(wanted, valid, step_ns);
            charge(&query.budget, &kept.series, found, &series)?;
            copied.grow(kept.bytes)?;
            let still = valid.overlap(span).map(|span| reuse::cut(&kept.series, span));
            series = reuse::joined(still.unwrap_or_default(), series);
        }
        if answer.warnings.is_empty() && answer.infos.is_empty() && reuse::is_plain(&series) {
            self.results.keep(key, seen, span, &series);
        }
        let series = if span == wanted { series } else { reuse::cut(&series, wanted) };
        Ok(Answer { value: QueryValue::Matrix(series), ..answer })
    }

    fn count(&self, query: &Query, plan: Reuse, wanted: Span, step_ns: i64) {
        let (outcome, steps) = match plan {
            Reuse::All => (Outcome::Hit, wanted.count(step_ns)),
            Reuse::Part { found, .. } => (Outcome::Partial, found.count(step_ns)),
            Reuse::Nothing => (Outcome::Miss, 0),
        };
        self.results.count(outcome, steps);
        query.reused_steps.store(steps, Ordering::Relaxed);
    }
}

fn answer_of(series: Vec<MatrixSeries>) -> Answer {
    Answer {
        value: QueryValue::Matrix(series),
        warnings: Vec::new(),
        infos: Vec::new(),
        coverage: Coverage::default(),
    }
}

/// Charges what of kept series is put into an answer, as if it had been evaluated; those that were evaluated for other
/// steps are charged already.
fn charge(budget: &Budget, kept: &[MatrixSeries], found: Span, evaluated: &[MatrixSeries]) -> Result<()> {
    let (mut series, mut points, mut bytes) = (0, 0, 0);
    for one in kept {
        let within = found.of_points(&one.points);
        if within.is_empty() {
            continue;
        }
        let is_known = evaluated.binary_search_by(|other| other.labels.cmp(&one.labels)).is_ok();
        series += u64::from(!is_known);
        points += within.len() as u64;
        bytes += answer_bytes(&one.labels, within);
    }
    budget.charge_points(points)?;
    budget.charge_series(series)?;
    Ok(budget.charge_bytes(bytes)?)
}
