//! A statement in two forms: as a user writes them, and so that no fast way is open.
//!
//! In the plain form every condition but the bounds of time speaks of rows (`(host = 'a' OR time < '1700-01-01')`), so that
//! series are not chosen and nothing is answered from partials, and there is no order by time and no page: [`Statement::page`]
//! does that to the whole answer.

use icecore::Table;

/// No row is that old.
const NEVER: &str = "time < '1700-01-01'";

/// One SELECT.
#[derive(Debug, Default, Clone)]
pub(super) struct Statement {
    pub(super) items: Vec<String>,
    pub(super) from: From,
    /// Conjuncts that bound time.
    pub(super) times: Vec<String>,
    /// The other conjuncts.
    pub(super) conjuncts: Vec<String>,
    pub(super) dimensions: Vec<String>,
    pub(super) having: Option<String>,
    pub(super) fill: &'static str,
    pub(super) order: Order,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
    pub(super) series_limit: Option<usize>,
    pub(super) series_offset: usize,
    pub(super) zone: &'static str,
}

#[derive(Debug, Clone)]
pub(super) enum From {
    Measurement(&'static str),
    Query(Box<Statement>),
}

impl Default for From {
    fn default() -> Self {
        Self::Measurement("cpu")
    }
}

#[derive(Debug, Default, Clone)]
pub(super) enum Order {
    #[default]
    None,
    Ascending,
    Descending,
    /// A column, and its direction.
    Column(String),
}

/// In which form a statement is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    AsAsked,
    Plain,
    /// Plain, with order and page, inside another statement.
    PlainInside,
}

impl Statement {
    pub(super) fn text(&self, form: Form) -> String {
        let (is_plain, mut conjuncts) = (form != Form::AsAsked, self.times.clone());
        for conjunct in &self.conjuncts {
            conjuncts.push(if is_plain { format!("({conjunct} OR {NEVER})") } else { conjunct.clone() });
        }
        if is_plain {
            conjuncts.push(format!("({NEVER} OR time >= '1700-01-01')"));
        }
        let mut text = format!("SELECT {} FROM ", self.items.join(", "));
        match &self.from {
            From::Measurement(name) => text += name,
            From::Query(inner) => {
                let form = if is_plain { Form::PlainInside } else { form };
                text += &format!("({})", inner.text(form));
            }
        }
        if !conjuncts.is_empty() {
            text += &format!(" WHERE {}", conjuncts.join(" AND "));
        }
        if !self.dimensions.is_empty() {
            text += &format!(" GROUP BY {}", self.dimensions.join(", "));
        }
        if let Some(having) = &self.having {
            text += &format!(" HAVING {having}");
        }
        text += self.fill;
        if form != Form::Plain || self.orders_by_column() {
            text += &self.tail();
        }
        text + self.zone
    }

    fn tail(&self) -> String {
        let mut tail = match &self.order {
            Order::None => String::new(),
            Order::Ascending => " ORDER BY time ASC".to_owned(),
            Order::Descending => " ORDER BY time DESC".to_owned(),
            Order::Column(column) => format!(" ORDER BY {column}"),
        };
        let numbers = [
            ("LIMIT", self.limit),
            ("OFFSET", Some(self.offset).filter(|offset| 0 < *offset)),
            ("SLIMIT", self.series_limit),
            ("SOFFSET", Some(self.series_offset).filter(|offset| 0 < *offset)),
        ];
        for (word, number) in numbers {
            if let Some(number) = number {
                tail += &format!(" {word} {number}");
            }
        }
        tail
    }

    fn orders_by_column(&self) -> bool {
        matches!(self.order, Order::Column(_))
    }

    /// Puts the whole answer of the plain form in order, and cuts the page out of it.
    pub(super) fn page(&self, mut table: Table) -> Table {
        if self.orders_by_column() {
            return table;
        }
        let is_backwards = matches!(self.order, Order::Descending);
        for series in &mut table.series {
            if is_backwards {
                series.rows.reverse();
            }
            let rows = std::mem::take(&mut series.rows).into_iter().skip(self.offset);
            series.rows = rows.take(self.limit.unwrap_or(usize::MAX)).collect();
        }
        table.series.retain(|series| !series.rows.is_empty());
        let series = table.series.into_iter().skip(self.series_offset);
        table.series = series.take(self.series_limit.unwrap_or(usize::MAX)).collect();
        if is_backwards {
            table.series.reverse();
        }
        table
    }
}
