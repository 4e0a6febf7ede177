//! Random conditions: bounds of time, tests of tags and of fields.

use super::estate::{HOUR_NS, START_NS};
use super::generator::Generator;

impl Generator<'_> {
    /// Bounds of time: none, one or two.
    pub(super) fn times(&mut self) -> Vec<String> {
        let (left, right) = (self.time(), self.time());
        let (low, high) = (left.min(right), left.max(right));
        let lower = format!("time {} {}", self.one_of(&[">=", ">"]), self.time_text(low));
        let upper = format!("time {} {}", self.one_of(&["<", "<="]), self.time_text(high));
        match self.below(20) {
            0..=3 => Vec::new(),
            4..=6 => vec![lower],
            7 | 8 => vec![upper],
            9 => vec![format!("time = {}", self.estate.some_time())],
            _ => vec![lower, upper],
        }
    }

    fn time(&mut self) -> i64 {
        let span_ns = self.estate.now_ns - START_NS + HOUR_NS;
        let at_ns = START_NS - HOUR_NS / 2 + self.random().ns(span_ns);
        match self.below(4) {
            0 => self.estate.some_time(),
            1 => at_ns / HOUR_NS * HOUR_NS,
            2 => at_ns / (HOUR_NS / 60) * (HOUR_NS / 60),
            _ => at_ns,
        }
    }

    fn time_text(&mut self, at_ns: i64) -> String {
        match self.below(4) {
            0 => format!("now() - {}u", (self.estate.now_ns - at_ns) / 1000),
            _ => at_ns.to_string(),
        }
    }

    /// Half of the time of tags alone, which leaves the way to cells open.
    pub(super) fn conjuncts(&mut self) -> Vec<String> {
        let of_rows = self.once_in(2);
        let count = self.random().one_of(&[0, 0, 0, 1, 1, 2]);
        (0..count).map(|_| self.test(of_rows, 2)).collect()
    }

    fn test(&mut self, of_rows: bool, depth: u32) -> String {
        match self.below(12) {
            0 if depth > 0 => {
                format!("({} OR {})", self.test(of_rows, depth - 1), self.test(of_rows, depth - 1))
            }
            1 if depth > 0 => {
                format!("NOT ({} AND {})", self.test(of_rows, depth - 1), self.test(of_rows, depth - 1))
            }
            2 if of_rows => {
                let at_ns = self.time();
                format!("({} OR time >= {at_ns})", self.tag_test())
            }
            3..=9 if of_rows => self.field_test(),
            _ => self.tag_test(),
        }
    }

    fn tag_test(&mut self) -> String {
        let tag =
            self.one_of(&["host", "host", "host", "host", "dc", "dc", "zone", "dc::tag", "rack", "nosuch"]);
        let value = match tag {
            "host" => self.one_of(&["a", "b", "c", "d", "", "h03"]),
            _ => self.one_of(&["x", "y", "1", "", "x", "y"]),
        };
        match self.below(8) {
            0 | 1 => format!("{tag} = '{value}'"),
            2 => format!("{tag} {} '{value}'", self.one_of(&["!=", "<>"])),
            3 | 4 => format!(
                "{tag} {} /{}/",
                self.one_of(&["=~", "!~"]),
                self.one_of(&["^a", "a|b", "^$", ".", "^h0"])
            ),
            5 => format!(
                "{tag} {} '{}'",
                self.one_of(&["LIKE", "NOT LIKE"]),
                self.one_of(&["h%", "_", "%", "%1%"])
            ),
            6 => format!("{tag} {} ('a', 'x', '{value}')", self.one_of(&["IN", "NOT IN"])),
            _ => format!("'{value}' = {tag}"),
        }
    }

    fn field_test(&mut self) -> String {
        let number = self.number();
        let threshold = match self.estate.edge(number) {
            // Where the bounds of a page may be.
            Some(edge) if self.once_in(2) => edge,
            _ => self.one_of(&["0", "10", "-3", "55.5", "120", "2.5", "9223372036854775000"]).to_owned(),
        };
        let op = self.one_of(&["<", "<=", ">", ">=", "=", "!=", ">", "<"]);
        match self.below(12) {
            0 => format!("ok = {}", self.one_of(&["true", "false"])),
            1 => format!(
                "note {} '{}'",
                self.one_of(&["=", "!="]),
                self.one_of(&["ok", "bad one", "none", ""])
            ),
            2 => format!("note {} /{}/", self.one_of(&["=~", "!~"]), self.one_of(&["o", "^s", "ü", "^$"])),
            3 => format!("msg {} 'm{}%'", self.one_of(&["LIKE", "NOT LIKE"]), self.below(20)),
            4 => format!("{number} {} (1, 2.5, 7, 0)", self.one_of(&["IN", "NOT IN"])),
            5 => format!("{number} + {} {op} {threshold}", self.number()),
            6 => format!("abs({number}) {op} {threshold}"),
            7 => format!("{threshold} {op} {number}"),
            8 => format!("{number} {op} {}", self.number()),
            _ => format!("{number} {op} {threshold}"),
        }
    }
}
