//! The labels of exemplars, which are single observations that a sender gives along with a series. Knows no wire form.
//!
//! Rules are those of Prometheus: names and values of all labels of an exemplar have at most 128 characters together.

use icecore_query::promql::Labels;

/// Characters of names and values of the labels of an exemplar.
const CHARS_MAX: usize = 128;

/// The labels of an exemplar in the making. Of more than are allowed none are kept.
#[derive(Debug, Default)]
pub(crate) struct ExemplarLabels {
    pairs: Vec<(String, String)>,
    chars: usize,
    is_too_long: bool,
}

impl ExemplarLabels {
    /// Adds a label; one without a name or a value is none.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if name.is_empty() || value.is_empty() || self.is_too_long {
            return;
        }
        if !self.fits([(name, value)]) {
            self.is_too_long = true;
            self.pairs.clear();
            return;
        }
        self.chars += name.chars().count() + value.chars().count();
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Whether there is room for these labels, too.
    pub(crate) fn fits<'t>(&self, labels: impl IntoIterator<Item = (&'t str, &'t str)>) -> bool {
        let room = CHARS_MAX - self.chars;
        // No more than can matter is counted of a long text.
        let chars = |text: &str| text.chars().take(CHARS_MAX + 1).count();
        let mut wanted = 0_usize;
        labels.into_iter().all(|(name, value)| {
            wanted += chars(name) + chars(value);
            wanted <= room
        })
    }

    /// The labels; nothing when there were too many.
    pub(crate) fn finish(self) -> Option<Labels> {
        (!self.is_too_long).then(|| Labels::new(self.pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Option<String> {
        let mut labels = ExemplarLabels::default();
        pairs.iter().for_each(|(name, value)| labels.push(name, value));
        labels.finish().map(|labels| labels.to_string())
    }

    #[test]
    fn labels_have_128_characters_and_not_one_more() {
        assert_eq!(labels(&[("b", "1"), ("a", "2"), ("", "x"), ("y", "")]).unwrap(), r#"{a="2", b="1"}"#);
        assert_eq!(labels(&[]).unwrap(), "{}");
        let (long, longer) = ("ä".repeat(125), "ä".repeat(126));
        assert!(labels(&[("ab", "c"), ("ü", &long[..248])]).is_some());
        assert!(labels(&[("ab", &longer)]).is_some());
        assert!(labels(&[("abc", &longer)]).is_none());
        assert!(labels(&[("ab", &longer), ("c", "")]).is_some());
        assert!(labels(&[("ab", &longer), ("c", "d")]).is_none());
    }
}
