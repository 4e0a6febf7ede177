//! The law of the fast ways: a SELECT answers as it does where none of them is open.
//!
//! One side is a real engine, whose rows lie in memtables, segments and cells. The other is the same rows in vectors
//! ([`plain`]), asked in a form that leaves nothing to be clever about ([`statement`]): every condition is tested on every
//! row, nothing comes from partials, and the whole answer is put in order by time and cut by the test. So there is no switch
//! in the product, and storage's whole path of reading is compared too. What both sides have is what makes cells of rows
//! that were read: accumulators, buckets, transformations, and ORDER BY a column with the page it has, which the product
//! does on both sides, as it does order and page of a subquery. Those are held against InfluxDB (`tests/clients/influxql`).
//!
//! Identical are all values but these: sums and means of floats that no sum holds exactly agree to 1e-12 of the larger,
//! deviations to 1e-7 of it, or of ten, or of a million where the estate has values so large, if it is less. Percentiles and
//! shares come from the same histogram whatever was read, so they are identical, too; how far they are from the values is
//! judged by `quantiles`. What one side refuses the other refuses for the same kind of reason.
//!
//! `ICECORE_TEST_SEED=n` runs one seed. Order: asking, comparing, the test.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stderr, reason = "a test that fails shows where it was")]

mod condition;
mod estate;
mod generator;
mod plain;
mod statement;

use icecore::{Cell, Table};
use icecore_query::{Budget, Error, ErrorKind, Limits, select};
use icecore_storage::scan::{Resolution, Scan};

use self::estate::Estate;
use self::generator::Generator;
use self::statement::{Form, Statement};

/// Statements to each state of an estate.
const STATEMENTS: usize = 25;
/// Deviations that are less than this are compared as if they were this: they are differences of larger values.
const DEVIATION_SCALE: f64 = 10.0;
/// The same where an estate has values beyond a million.
const LARGE_DEVIATION_SCALE: f64 = 1e6;

/// What a run has seen.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    refused: usize,
    with_rows: usize,
    cells: u64,
}

fn ask(scan: &dyn Scan, now_ns: i64, text: &str) -> Result<Table, Error> {
    let budget = Budget::untimed(Limits::default());
    let context = select::Context { scan, budget: &budget, now_ns, resolution: Resolution::Auto };
    select::execute(&context, &select::parse(text)?[0])
}

/// What of an estate decides how near its answers must be.
#[derive(Debug, Clone, Copy)]
struct Near {
    is_exact: bool,
    is_large: bool,
}

impl Near {
    /// How far two floats of a column may be from each other.
    fn tolerance(self, column: &str, left: f64, right: f64) -> f64 {
        let larger = left.abs().max(right.abs());
        let scale = if self.is_large || !self.is_exact { LARGE_DEVIATION_SCALE } else { DEVIATION_SCALE };
        match column {
            _ if column.contains("stddev") => 1e-7 * larger.max(scale),
            _ if self.is_exact => 0.0,
            _ if column.contains("sum") || column.contains("mean") => 1e-12 * larger,
            _ => 0.0,
        }
    }

    fn is_same(self, column: &str, left: &Cell, right: &Cell) -> bool {
        match (left, right) {
            (Cell::Float(left), Cell::Float(right)) => {
                let are_same = left == right || (left.is_nan() && right.is_nan());
                are_same || (left - right).abs() <= self.tolerance(column, *left, *right)
            }
            (left, right) => left == right,
        }
    }
}

/// The first difference of two answers.
fn difference(found: &Table, expected: &Table, near: Near) -> Option<String> {
    let names = |table: &Table| -> Vec<_> {
        table.series.iter().map(|one| (one.name.clone(), one.tags.clone(), one.columns.clone())).collect()
    };
    if names(found) != names(expected) {
        return Some(format!("series are {:?}, plainly {:?}", names(found), names(expected)));
    }
    if !found.messages.is_empty() {
        return Some(format!("{:?}", found.messages));
    }
    for (one, other) in found.series.iter().zip(&expected.series) {
        let same = |(row, beside): (&Vec<Cell>, &Vec<Cell>)| {
            let columns = one.columns.iter().zip(row.iter().zip(beside));
            row.len() == beside.len() && { columns }
                .all(|(column, (left, right))| near.is_same(column, left, right))
        };
        let place = one.rows.iter().zip(&other.rows).position(|rows| !same(rows));
        let place =
            place.or((one.rows.len() != other.rows.len()).then_some(one.rows.len().min(other.rows.len())));
        if let Some(place) = place {
            let (rows, beside) = (one.rows.len(), other.rows.len());
            return Some(format!(
                "{} {:?}: row {place} of {rows} is {:?}, plainly of {beside} {:?}",
                one.name,
                one.tags,
                one.rows.get(place),
                other.rows.get(place)
            ));
        }
    }
    None
}

/// Asks both sides of some statements.
fn compare(estate: &mut Estate, state: &str, seed: u64, tally: &mut Tally) {
    // What a panic inside of the product would not say.
    eprintln!("seed {seed}, {state}");
    let (view, plain) = (estate.engine.view(), estate.plain());
    let near = Near { is_exact: estate.is_exact, is_large: estate.is_large };
    for number in 0..STATEMENTS {
        let statement = Generator { estate: &mut *estate }.statement();
        let (text, plainly) = (statement.text(Form::AsAsked), statement.text(Form::Plain));
        let place = format!("seed {seed}, {state}, statement {number}:\n  {text}\n  {plainly}\n ");
        let found = ask(&*view, estate.now_ns, &text);
        let expected = ask(&plain, estate.now_ns, &plainly);
        tally.asked += 1;
        match (found, expected) {
            (Ok(found), Ok(expected)) => judge(&statement, &found, expected, near, &place, tally),
            // One way may hold more than the other.
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::LimitExceeded => {
                tally.refused += 1
            }
            (Err(found), Err(expected)) if found.kind() == expected.kind() => tally.refused += 1,
            (found, expected) => panic!("{place} {:?}, plainly {:?}", found.err(), expected.err()),
        }
    }
}

fn judge(statement: &Statement, found: &Table, expected: Table, near: Near, place: &str, tally: &mut Tally) {
    let expected = statement.page(expected);
    if let Some(difference) = difference(found, &expected, near) {
        panic!("{place} {difference}");
    }
    tally.with_rows += usize::from(!found.series.is_empty());
    tally.cells += found.coverage.cells.iter().sum::<u64>();
}

#[test]
fn statements_answer_as_without_any_fast_way() {
    let mut tally = Tally::default();
    let seeds = super::sim::seeds(8, 100, 2_000);
    let are_many = seeds.start() < seeds.end();
    for seed in seeds {
        let mut estate = Estate::new(seed);
        estate.live();
        compare(&mut estate, "as it came", seed, &mut tally);
        estate.engine.seal().unwrap();
        compare(&mut estate, "sealed", seed, &mut tally);
        estate.late();
        compare(&mut estate, "late rows", seed, &mut tally);
        estate.delete();
        estate.late();
        if seed.is_multiple_of(2) {
            estate.engine.maintain().unwrap();
        }
        compare(&mut estate, "deleted", seed, &mut tally);
    }
    if are_many {
        assert!(tally.asked < 2 * tally.with_rows && tally.refused * 10 < tally.asked, "{tally:?}");
        assert!(tally.cells > 0, "{tally:?}");
    }
}
