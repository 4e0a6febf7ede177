//! Names of metrics and labels as Prometheus' OTLP translation makes them: runs of other characters become one `_`,
//! units become suffixes, counters end in `_total`. Pure.

/// Units and what they are called in a name. Others are called as they are.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];
/// Units behind a slash.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// What a suffix is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Counter,
    Gauge,
    Other,
}

/// The name of a metric; empty when nothing of it can be kept.
pub(super) fn metric_name(name: &str, unit: &str, form: Form) -> String {
    let is_kept = |symbol: char| symbol.is_ascii_alphanumeric() || symbol == ':';
    let mut words: Vec<String> =
        name.split(|symbol| !is_kept(symbol)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = unit_word(main, &UNITS);
    if !main.is_empty() && !words.contains(&main) {
        words.push(main);
    }
    let per = unit_word(per, &PER_UNITS);
    if !per.is_empty() && !words.contains(&per) {
        words.extend(["per".to_owned(), per]);
    }
    let last = match form {
        Form::Counter => Some("total"),
        Form::Gauge if unit == "1" => Some("ratio"),
        Form::Gauge | Form::Other => None,
    };
    if let Some(last) = last {
        words.retain(|word| word != last);
        words.push(last.to_owned());
    }
    let joined = words.join("_");
    if joined.starts_with(|symbol: char| symbol.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

/// A unit as part of a name; empty for remarks in braces.
fn unit_word(unit: &str, names: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let name = names.iter().find(|(known, _)| *known == unit).map_or(unit, |(_, name)| name);
    let is_kept = |symbol: char| symbol.is_ascii_alphanumeric() || symbol == ':';
    let words: Vec<&str> = name.split(|symbol| !is_kept(symbol)).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// Appends the name of a label.
pub(super) fn push_label_name(out: &mut String, key: &str) {
    let mut symbols = key.chars();
    match symbols.next() {
        Some(first) if first.is_ascii_digit() => out.push_str("key_"),
        Some(first) if !first.is_ascii_alphabetic() && !key.starts_with("__") => {
            // Any first symbol that is no letter becomes `_`, and one `_` alone gets a word before it.
            let second = symbols.next();
            if second.is_none_or(|second| second.is_ascii_alphanumeric()) {
                out.push_str("key");
            }
        }
        _ => {}
    }
    out.extend(key.chars().map(|symbol| if symbol.is_ascii_alphanumeric() { symbol } else { '_' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_get_units_and_endings() {
        for (name, unit, form, expected) in [
            ("http.server.duration", "ms", Form::Other, "http_server_duration_milliseconds"),
            ("http.server.duration_seconds", "s", Form::Other, "http_server_duration_seconds"),
            ("requests", "1", Form::Counter, "requests_total"),
            ("requests_total", "{request}", Form::Counter, "requests_total"),
            ("total.requests", "", Form::Counter, "requests_total"),
            ("system.cpu.utilization", "1", Form::Gauge, "system_cpu_utilization_ratio"),
            ("memory.usage", "By", Form::Gauge, "memory_usage_bytes"),
            ("net.io", "By/s", Form::Gauge, "net_io_bytes_per_second"),
            ("net.io", "{packet}/s", Form::Counter, "net_io_per_second_total"),
            ("m", "foo/bar", Form::Gauge, "m_foo_per_bar"),
            ("fuel", "%", Form::Gauge, "fuel_percent"),
            ("a__b..c", "", Form::Gauge, "a_b_c"),
            ("job:x:rate", "", Form::Gauge, "job:x:rate"),
            ("2xx", "", Form::Gauge, "_2xx"),
            ("ö", "", Form::Gauge, ""),
            ("m", "a.b", Form::Gauge, "m_a_b"),
        ] {
            assert_eq!(metric_name(name, unit, form), expected, "{name} {unit}");
        }
    }

    #[test]
    fn label_names_keep_letters_digits_and_underscores() {
        for (key, expected) in [
            ("http.method", "http_method"),
            ("a..b", "a__b"),
            ("ok_1", "ok_1"),
            ("1st", "key_1st"),
            ("_x", "key_x"),
            (".x", "key_x"),
            ("__name__", "__name__"),
            ("ä.b", "__b"),
        ] {
            let mut out = String::new();
            push_label_name(&mut out, key);
            assert_eq!(out, expected, "{key}");
        }
    }
}
