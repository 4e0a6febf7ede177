//! `--demo`: the life of a small shop, so that every query has something to show a minute after the first start.
//!
//! Order: the last two hours are back-filled on the demo's thread, oldest first, then it goes on live, once a
//! second. A dozen services answer requests whose number follows the day and rises to now; once an hour the
//! payment service has an incident after a deploy, and checkout suffers with it. All from a seeded generator: the
//! same seed and times give the same rows. Writes through [`Database`] like any client.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use icecore_storage::model::{DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS};

use crate::services::StopFlag;
use crate::{Database, Error, ErrorKind, Point, Result};

/// How far back the first rows lie.
const BACKFILL_NS: i64 = 2 * HOUR_NS;
/// Requests a second two hours ago, and now.
const RATE_THEN: f64 = 12.0;
const RATE_NOW: f64 = 100.0;
/// Gauges and counters are written each this many seconds.
const GAUGE_SECONDS: i64 = 10;
const POINTS_AT_ONCE: usize = 5_000;
const SEED: u64 = 0x1CEC_04E5;

/// Name, share of all requests, usual latency in ms.
const SERVICES: [(&str, f64, f64); 12] = [
    ("frontend", 0.26, 35.0),
    ("catalog", 0.17, 18.0),
    ("search", 0.12, 60.0),
    ("cart", 0.10, 12.0),
    ("checkout", 0.06, 90.0),
    ("payment", 0.05, 140.0),
    ("user", 0.07, 15.0),
    ("recommend", 0.06, 45.0),
    ("inventory", 0.04, 10.0),
    ("shipping", 0.03, 70.0),
    ("email", 0.02, 200.0),
    ("image", 0.02, 25.0),
];
const ENDPOINTS: [(&str, &str); 4] =
    [("/list", "GET"), ("/item", "GET"), ("/item", "POST"), ("/status", "GET")];
const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// The demo, running.
#[derive(Debug)]
pub struct Demo {
    stop: Arc<StopFlag>,
    thread: JoinHandle<()>,
}

impl Demo {
    /// Starts writing to a database.
    ///
    /// # Errors
    /// `Internal` when the system gives no thread.
    pub fn start(database: Arc<Database>) -> Result<Self> {
        let stop = Arc::new(StopFlag::default());
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("icecore-demo".to_owned())
            .spawn(move || {
                if let Err(error) = run(&database, &flag) {
                    tracing::error!(%error, "the demo has ended");
                }
            })
            .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot start the demo: {error}")))?;
        Ok(Self { stop, thread })
    }

    /// Ends it, and waits until it has.
    pub fn stop(self) {
        self.stop.raise();
        if self.thread.join().is_err() {
            tracing::error!("the demo panicked");
        }
    }
}

/// Questions that the demo's data answers, as commands to copy.
pub fn curl_lines(url: &str) -> Vec<String> {
    let promql = [
        r#"100 * sum by (service) (sum_over_time(requests_err[5m])) / sum by (service) (count_over_time(requests_err[5m]))"#,
        r#"histogram_quantile(0.99, sum by (service) (sum_over_time(requests_latency_ms{__stat__="hist"}[5m])))"#,
        r#"sum by (service) (rate(http_requests_total[5m]))"#,
    ];
    let select = [
        "SELECT count(latency_ms), p99(latency_ms) FROM requests WHERE time > now() - 1h GROUP BY time(10m), service",
        "SELECT time, service, version, note FROM deploys WHERE time > now() - 3h",
    ];
    let promql =
        promql.iter().map(|text| format!("curl -G {url}/api/v1/query --data-urlencode 'query={text}'"));
    let select = select.iter().map(|text| format!("curl -G {url}/query --data-urlencode 'q={text}'"));
    promql.chain(select).collect()
}

fn run(database: &Database, stop: &StopFlag) -> Result<()> {
    let now_ns = database.now_ns();
    let mut shop = Shop::new(now_ns);
    let mut points = Vec::with_capacity(POINTS_AT_ONCE);
    let mut second = now_ns.saturating_sub(BACKFILL_NS) / SECOND_NS;
    let last = now_ns / SECOND_NS;
    let mut rows = 0;
    while second < last && !stop.is_raised() {
        shop.second(second, &mut points);
        second += 1;
        if points.len() >= POINTS_AT_ONCE {
            rows += database.write(&points)?.accepted;
            points.clear();
        }
    }
    rows += database.write(&points)?.accepted;
    tracing::info!(rows, "the demo's past is written; going on live");
    while !stop.wait(Duration::from_secs(1)) {
        points.clear();
        // Seconds that are over, each once, also after a pause.
        let now = database.now_ns() / SECOND_NS;
        second = second.max(now.saturating_sub(60));
        while second < now {
            shop.second(second, &mut points);
            second += 1;
        }
        database.write(&points)?;
    }
    Ok(())
}

/// What the generator knows from one second to the next.
#[derive(Debug)]
struct Shop {
    random: Random,
    start_ns: i64,
    /// Requests and errors counted so far, by service.
    totals: [(u64, u64); SERVICES.len()],
    /// Requests that a fraction of was due in the seconds before.
    due: f64,
    version: u32,
}

impl Shop {
    fn new(now_ns: i64) -> Self {
        let totals = [(0, 0); SERVICES.len()];
        Self {
            random: Random(SEED),
            start_ns: now_ns.saturating_sub(BACKFILL_NS),
            totals,
            due: 0.0,
            version: 41,
        }
    }

    /// Appends all that happens in one second.
    fn second(&mut self, second: i64, points: &mut Vec<Point>) {
        let ts_ns = second * SECOND_NS;
        self.due += self.rate(ts_ns);
        while self.due >= 1.0 {
            self.due -= 1.0;
            let point = self.request(ts_ns);
            points.push(point);
        }
        if second.rem_euclid(GAUGE_SECONDS) == 0 {
            self.gauges(ts_ns, points);
        }
        // The deploy that goes wrong, and the one that mends it.
        let into_hour_ns = ts_ns.rem_euclid(HOUR_NS);
        if into_hour_ns == INCIDENT_START_NS || into_hour_ns == INCIDENT_END_NS {
            points.push(self.deploy(ts_ns, into_hour_ns == INCIDENT_START_NS));
        }
    }

    /// Requests a second: rising over the back-filled time, with the rhythm of the day.
    fn rate(&self, ts_ns: i64) -> f64 {
        let progress = as_f64(ts_ns - self.start_ns) / as_f64(BACKFILL_NS);
        let level = RATE_THEN + (RATE_NOW - RATE_THEN) * progress.clamp(0.0, 1.0).powi(4);
        let of_day = as_f64(ts_ns.rem_euclid(DAY_NS)) / as_f64(DAY_NS);
        // Most visitors come in the evening.
        level * (1.0 + 0.2 * ((of_day - 0.8) * std::f64::consts::TAU).cos())
    }

    fn request(&mut self, second_ns: i64) -> Point {
        let service_idx = self.pick_service();
        let (service, _, usual_ms) = SERVICES.get(service_idx).copied().unwrap_or(("frontend", 1.0, 35.0));
        let (endpoint, method) = self.random.of(&ENDPOINTS).copied().unwrap_or(("/", "GET"));
        let region = self.random.of(&REGIONS).copied().unwrap_or("eu-west");
        let trouble = trouble(second_ns, service);
        let is_error = self.random.fraction() < 0.004 + 0.2 * trouble;
        let latency_ms = usual_ms * (1.0 + 5.0 * trouble) * (0.45 * self.random.bell()).exp();
        let status = match (is_error, self.random.below(10)) {
            (true, 0..=7) => 503_i64,
            (true, _) => 500,
            (false, 0) => 404,
            (false, _) => 200,
        };
        if let Some((requests, errors)) = self.totals.get_mut(service_idx) {
            *requests += 1;
            *errors += u64::from(is_error);
        }
        let user = self.random.below(4_000);
        let offset_ns = i64::try_from(self.random.below(1_000_000_000)).unwrap_or(0);
        Point::new("requests")
            .tag("service", service)
            .tag("endpoint", endpoint)
            .tag("method", method)
            .tag("region", region)
            .field("latency_ms", (latency_ms * 1000.0).round() / 1000.0)
            .field("bytes", i64::try_from(300 + self.random.below(20_000)).unwrap_or(300))
            .field("err", i64::from(is_error))
            .field("status", status)
            .field("user_id", format!("u{user:04}"))
            .at_ns(second_ns + offset_ns)
    }

    fn pick_service(&mut self) -> usize {
        let mut left = self.random.fraction();
        for (index, (_, share, _)) in SERVICES.iter().enumerate() {
            left -= share;
            if left < 0.0 {
                return index;
            }
        }
        0
    }

    /// Processor and memory of each host, and the counters of each service.
    fn gauges(&mut self, ts_ns: i64, points: &mut Vec<Point>) {
        for ((service, share, _), (requests, errors)) in SERVICES.iter().zip(self.totals) {
            let load = self.rate(ts_ns) / RATE_NOW * share.sqrt() * 0.9;
            let cpu = (100.0 * load * (1.0 + 0.1 * self.random.bell()) + 30.0 * trouble(ts_ns, service))
                .clamp(1.0, 100.0);
            // Memory grows from deploy to deploy.
            let mem = 300.0
                + 400.0 * as_f64(ts_ns.rem_euclid(HOUR_NS)) / as_f64(HOUR_NS)
                + 5.0 * self.random.bell();
            points.push(
                Point::new("hosts")
                    .tag("host", format!("{service}-1"))
                    .tag("service", *service)
                    .field("cpu", (cpu * 10.0).round() / 10.0)
                    .field("mem", (mem * 10.0).round() / 10.0)
                    .at_ns(ts_ns),
            );
            points.push(
                Point::new("http")
                    .tag("service", *service)
                    .field("requests_total", requests)
                    .field("errors_total", errors)
                    .at_ns(ts_ns),
            );
        }
    }

    fn deploy(&mut self, ts_ns: i64, is_bad: bool) -> Point {
        self.version += 1;
        let note = if is_bad { "new retry policy" } else { "roll back the retry policy" };
        Point::new("deploys")
            .tag("service", "payment")
            .field("version", format!("1.{}.0", self.version))
            .field("note", note)
            .at_ns(ts_ns)
    }
}

const INCIDENT_START_NS: i64 = 20 * MINUTE_NS;
const INCIDENT_END_NS: i64 = 32 * MINUTE_NS;

/// How bad the hourly incident is for a service: 0 for well, 1 at its height.
fn trouble(ts_ns: i64, service: &str) -> f64 {
    let into_hour_ns = ts_ns.rem_euclid(HOUR_NS);
    if !(INCIDENT_START_NS..INCIDENT_END_NS).contains(&into_hour_ns) {
        return 0.0;
    }
    let height = match service {
        "payment" => 1.0,
        "checkout" => 0.5,
        _ => 0.0,
    };
    let risen = as_f64(into_hour_ns - INCIDENT_START_NS) / as_f64(3 * MINUTE_NS);
    height * risen.min(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "shapes of a demo need no exact times")]
fn as_f64(value: i64) -> f64 {
    value as f64
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }

    /// About normal, mean 0 and deviation 1: the sum of twelve evens less six.
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.fraction()).sum::<f64>() - 6.0
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(items.len()).unwrap_or(0);
        items.get(usize::try_from(self.below(count)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_700_000_000 * SECOND_NS;

    fn seconds(count: i64) -> Vec<Point> {
        let mut shop = Shop::new(NOW_NS);
        let mut points = Vec::new();
        let first = (NOW_NS - BACKFILL_NS) / SECOND_NS;
        (first..first + count).for_each(|second| shop.second(second, &mut points));
        points
    }

    #[test]
    fn shop_of_one_seed_is_always_the_same() {
        assert_eq!(seconds(60), seconds(60));
    }

    #[test]
    fn shop_backfill_is_bounded_and_has_an_incident() {
        let points = seconds(BACKFILL_NS / SECOND_NS);
        assert!((150_000..300_000).contains(&points.len()), "{}", points.len());
        let deploys = points.iter().filter(|point| point.measurement == "deploys").count();
        assert!(deploys >= 2, "{deploys}");
    }

    #[test]
    fn shop_rate_now_lies_between_80_and_120() {
        let rate = Shop::new(NOW_NS).rate(NOW_NS);
        assert!((79.0..121.0).contains(&rate), "{rate}");
    }

    #[test]
    fn shares_of_services_add_up_to_one() {
        let sum: f64 = SERVICES.iter().map(|(_, share, _)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}
