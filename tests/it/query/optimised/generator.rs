//! Random statements of every shape over an estate; `condition` says what they ask for.

use super::super::sim::Random;
use super::estate::Estate;
use super::statement::{From, Order, Statement};

const NUMBERS: [&str; 4] = ["v", "w", "n", "u"];
const TAGS: [&str; 5] = ["host", "dc", "zone", "rack", "nosuch"];

/// Makes statements over an estate.
pub(super) struct Generator<'a> {
    pub(super) estate: &'a mut Estate,
}

impl Generator<'_> {
    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.estate.random
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random().below(bound)
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn one_of(&mut self, choices: &[&'static str]) -> &'static str {
        self.random().one_of(choices)
    }

    pub(super) fn number(&mut self) -> &'static str {
        self.one_of(&NUMBERS)
    }

    fn field(&mut self) -> &'static str {
        self.one_of(&["v", "w", "n", "u", "ok", "note", "msg", "v", "n", "note"])
    }

    /// A statement; once in a while one that is refused.
    pub(super) fn statement(&mut self) -> Statement {
        let mut statement = match self.below(17) {
            0..=2 => self.rows(),
            3..=5 => self.aggregated(),
            6..=8 => self.buckets(),
            9 | 10 => self.selected(),
            11 => self.several(),
            12 | 13 => self.distinct(),
            14 => self.in_order(),
            15 => self.transformed(),
            _ => self.nested(),
        };
        self.tail(&mut statement);
        statement
    }

    fn base(&mut self) -> Statement {
        let mut statement =
            Statement { times: self.times(), conjuncts: self.conjuncts(), ..Statement::default() };
        if self.once_in(8) {
            let from = self.one_of(&["mem", "net", "/cpu|mem/", "cpu, net", "/./", "nothing"]);
            statement.from = From::Measurement(from);
        }
        for _ in 0..[0, 0, 1, 1, 2][usize::try_from(self.below(5)).unwrap()] {
            let dimension = self.one_of(&["host", "dc", "zone", "host", "*", "/^.o/", "nosuch", "dc::tag"]);
            statement.dimensions.push(dimension.to_owned());
        }
        if self.once_in(12) {
            statement.zone = self.one_of(&[" tz('Asia/Kolkata')", " tz('America/New_York')"]);
        }
        statement
    }

    fn rows(&mut self) -> Statement {
        let mut statement = self.base();
        statement.items = match self.below(5) {
            0 => vec![self.one_of(&["*", "*::field", "/^[vn]/", "*, host", "host, v"]).to_owned()],
            1 => {
                let (left, right) = (self.number(), self.number());
                let inner = format!("{left} {} {right}", self.one_of(&["+", "-", "*", "/", "%"]));
                vec![self.calculated(&inner), self.field().to_owned()]
            }
            _ => (0..1 + self.below(3)).map(|_| self.field().to_owned()).collect(),
        };
        if self.once_in(4) {
            let tag = self.one_of(&TAGS);
            statement.items.push(tag.to_owned());
        }
        statement
    }

    fn calculated(&mut self, operand: &str) -> String {
        match self.below(4) {
            0 => format!(
                "{}({operand})",
                self.one_of(&["abs", "ceil", "floor", "round", "sqrt", "ln", "atan"])
            ),
            1 => format!("pow({operand}, 2)"),
            _ => format!("{operand} {}", self.one_of(&["+ 2", "* 0.5", "- 7", "/ 4", "% 3"])),
        }
    }

    fn aggregated(&mut self) -> Statement {
        let mut statement = self.base();
        statement.items = match self.below(8) {
            0 => {
                vec![self.one_of(&["mean(*)", "count(*)", "max(/^[vn]$/)", "uniq(*)", "p95(/./)"]).to_owned()]
            }
            1 => {
                let call = format!("{}({})", self.one_of(&["count", "max", "min", "spread"]), self.number());
                vec![self.calculated(&call)]
            }
            _ => (0..1 + self.below(3)).map(|_| self.call()).collect(),
        };
        if self.once_in(40) {
            statement.items.push(self.one_of(&["v", "distinct(note)", "sum(note)", "top(v, 2)"]).to_owned());
        }
        self.having(&mut statement);
        statement
    }

    fn call(&mut self) -> String {
        let number = self.number();
        match self.below(13) {
            0 => format!("count({})", self.field()),
            1 => format!("{}({})", self.one_of(&["first", "last"]), self.field()),
            2 => format!("{}({number})", self.one_of(&["p50", "p95", "p99", "median"])),
            3 => format!("percentile({number}, {})", self.one_of(&["0", "10", "33.3", "90", "99.9", "100"])),
            4 => format!("count(distinct({}))", self.one_of(&["note", "msg", "n", "v", "u"])),
            5 => format!("uniq({})", self.one_of(&["note", "msg", "n", "v", "u"])),
            6 => format!("mode({})", self.one_of(&["note", "msg", "n", "v", "u"])),
            7 => format!("error_rate({})", self.one_of(&["ok", "v", "n"])),
            8 => format!("fraction_le({number}, {})", self.one_of(&["0", "100", "-2.5", "5000"])),
            9 => format!("apdex({number}, {})", self.one_of(&["50", "1000"])),
            10 => format!("stddev({number})"),
            11 => format!("{}({})", self.one_of(&["min", "max"]), self.one_of(&["v", "n", "u", "ok"])),
            _ => format!("{}({number})", self.one_of(&["sum", "mean", "spread", "min", "max"])),
        }
    }

    fn buckets(&mut self) -> Statement {
        let mut statement = self.aggregated();
        self.by_time(&mut statement);
        statement.fill = self.one_of(&[
            "",
            "",
            "",
            " fill(none)",
            " fill(0)",
            " fill(previous)",
            " fill(linear)",
            " fill(7.5)",
        ]);
        statement
    }

    fn by_time(&mut self, statement: &mut Statement) {
        let width = self.one_of(&["1m", "5m", "7m", "800s", "1h", "90m", "1h", "1d"]);
        let offset = self.one_of(&["", "", "", ", 10s", ", -3m"]);
        statement.dimensions.insert(0, format!("time({width}{offset})"));
    }

    fn selected(&mut self) -> Statement {
        let mut statement = self.base();
        let call = format!("{}({})", self.one_of(&["min", "max", "first", "last"]), self.number());
        statement.items.push(match self.below(6) {
            0 => format!("{call} * 2"),
            1 => format!("abs({call})"),
            _ => call,
        });
        match self.below(4) {
            0 => statement.items.push(self.one_of(&TAGS).to_owned()),
            1 => statement.items.push(self.field().to_owned()),
            2 => statement.items.extend(["note".to_owned(), "host".to_owned()]),
            _ => {}
        }
        if self.once_in(3) {
            self.by_time(&mut statement);
            statement.fill = self.one_of(&["", " fill(none)", " fill(previous)"]);
        }
        statement
    }

    fn several(&mut self) -> Statement {
        let mut statement = self.base();
        let tag = self.one_of(&["", "", ", host", ", dc, zone"]);
        let count = 1 + self.below(12);
        statement.items.push(format!("{}({}{tag}, {count})", self.one_of(&["top", "bottom"]), self.number()));
        if self.once_in(3) {
            statement.items.push(self.one_of(&["note", "host", "v"]).to_owned());
        }
        if self.once_in(3) {
            self.by_time(&mut statement);
        }
        statement
    }

    fn distinct(&mut self) -> Statement {
        let mut statement = self.base();
        let field = self.one_of(&["note", "msg", "note", "msg", "n", "v", "u", "ok"]);
        statement.items.push(match self.below(3) {
            0 => format!("count(distinct({field}))"),
            1 => format!("distinct({field})"),
            _ => format!("DISTINCT {field}"),
        });
        if self.once_in(4) {
            self.by_time(&mut statement);
        }
        statement
    }

    fn in_order(&mut self) -> Statement {
        let mut statement = self.base();
        let field = self.one_of(&["v", "n", "u"]);
        statement.items.push(match self.below(4) {
            0 => format!("integral({field})"),
            1 => format!("integral({field}, 1m)"),
            _ => {
                let (function, field) = (self.one_of(&["uptime", "downtime"]), self.one_of(&["ok", "n"]));
                format!("{function}({field}, {})", self.one_of(&["90s", "10m", "1h"]))
            }
        });
        if self.once_in(2) {
            self.by_time(&mut statement);
            statement.fill = self.one_of(&["", " fill(none)", " fill(0)"]);
        }
        statement
    }

    fn transformed(&mut self) -> Statement {
        let mut statement = self.base();
        let is_bucket = self.once_in(2);
        let operand = if is_bucket { self.steady_call() } else { self.number().to_owned() };
        let function = self.one_of(&[
            "derivative(%)",
            "derivative(%, 1m)",
            "non_negative_derivative(%, 7s)",
            "difference(%)",
            "non_negative_difference(%)",
            "moving_average(%, 2)",
            "moving_average(%, 5)",
            "cumulative_sum(%)",
            "elapsed(%)",
            "elapsed(%, 1m)",
        ]);
        statement.items.push(function.replace('%', &operand));
        if self.once_in(4) {
            statement.items.push(operand);
        }
        // Without it an aggregate is refused.
        if is_bucket && !self.once_in(20) {
            self.by_time(&mut statement);
            statement.fill = self.one_of(&["", " fill(none)", " fill(0)", " fill(previous)"]);
        }
        self.having(&mut statement);
        statement
    }

    /// A call that is the same number bit by bit, whichever way it is answered.
    fn steady_call(&mut self) -> String {
        let number = self.number();
        let always = ["count", "min", "max", "first", "last", "p95", "uniq"];
        match self.estate.is_exact {
            true => {
                format!("{}({number})", self.one_of(&["sum", "mean", "count", "min", "max", "last", "p50"]))
            }
            false => format!("{}({number})", self.one_of(&always)),
        }
    }

    fn having(&mut self, statement: &mut Statement) {
        if self.once_in(6) {
            let call = self.steady_call();
            let test = self.one_of(&["> 3", "<= 100", "!= 0", "> -5.5"]);
            statement.having = Some(format!("{call} {test}"));
            statement.items.push(call);
        }
    }

    fn nested(&mut self) -> Statement {
        let mut inner = self.base();
        let with_rows = self.once_in(3);
        match self.below(8) {
            0 => {
                let tags = self.one_of(&["", ", host"]);
                inner.items.push(format!("top(v{tags}, 3) AS x"));
            }
            1 => inner.items.push("sample(v, 5) AS x".to_owned()),
            2 => inner.items.push("DISTINCT note AS x".to_owned()),
            _ if with_rows => inner.items.push(format!("{} AS x", self.number())),
            _ => inner.items.push(format!("{} AS x", self.steady_call())),
        }
        let is_number = !inner.items[0].starts_with("DISTINCT");
        if !with_rows && is_number && self.once_in(2) && !inner.items[0].starts_with("sample") {
            self.by_time(&mut inner);
            inner.fill = self.one_of(&["", " fill(none)", " fill(0)"]);
        }
        if inner.items[0].starts_with("sample") {
            // Which rows it picks follows from the order of series; how many does not.
            let outer = Statement { times: self.times(), ..Statement::default() };
            return Statement {
                items: vec!["count(x)".to_owned()],
                from: From::Query(Box::new(inner)),
                ..outer
            };
        }
        if self.once_in(5) {
            inner.limit = Some(1 + usize::try_from(self.below(10)).unwrap());
            inner.order = if self.once_in(2) { Order::Descending } else { Order::None };
        }
        let mut outer = Statement { times: self.times(), ..Statement::default() };
        outer.items.push(match self.below(6) {
            0 => "x".to_owned(),
            1 if is_number => "max(x)".to_owned(),
            2 if is_number => "p95(x)".to_owned(),
            3 => "count(distinct(x))".to_owned(),
            _ => format!("{}(x)", self.one_of(&["count", "first", "last"])),
        });
        if self.once_in(3) {
            outer.dimensions.push(self.one_of(&["host", "dc", "*"]).to_owned());
        }
        if outer.items[0] != "x" && self.once_in(3) {
            self.by_time(&mut outer);
        }
        if self.once_in(4) && is_number {
            outer.conjuncts.push(self.one_of(&["x > 3", "x != 0", "(x < 100 OR x > 2000)"]).to_owned());
        }
        outer.from = From::Query(Box::new(inner));
        outer
    }

    fn tail(&mut self, statement: &mut Statement) {
        statement.order = match self.below(6) {
            0 | 1 => Order::Descending,
            2 => Order::Ascending,
            3 if self.once_in(2) => {
                let first = statement.items[0].clone();
                let is_plain = first.chars().all(|one| one.is_ascii_alphanumeric());
                let direction = self.one_of(&["", " ASC", " DESC"]);
                if is_plain { Order::Column(format!("{first}{direction}")) } else { Order::None }
            }
            _ => Order::None,
        };
        let small = |random: &mut Random, most: usize| random.one_of(&[1, 1, 2, 3, most, most]);
        if self.once_in(3) {
            statement.limit = Some(small(self.random(), 60));
        }
        if self.once_in(6) {
            statement.offset = small(self.random(), 4);
        }
        if self.once_in(8) {
            statement.series_limit = Some(small(self.random(), 4));
        }
        if self.once_in(12) {
            statement.series_offset = small(self.random(), 1);
        }
    }
}
