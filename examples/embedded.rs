//! icecore inside a program: `cargo run --example embedded`. Writes a minute of requests into a temporary
//! directory and asks two questions.

use icecore::{Cell, Database, Point, QueryValue};

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let database = Database::open(directory.path().join("data"))?;
    let now_ns = database.now_ns();

    let points: Vec<Point> = (0..60)
        .map(|second| {
            let service = if second % 3 == 0 { "pay" } else { "cart" };
            Point::new("requests")
                .tag("service", service)
                .field("latency_ms", 10.0 + f64::from(second))
                .at_ns(now_ns - i64::from(second) * 1_000_000_000)
        })
        .collect();
    // Durable and visible when it returns.
    let report = database.write(&points)?;
    println!("{} rows written, {} refused", report.accepted, report.rejected_count);

    let answer = database.promql("sum by (service) (count_over_time(requests_latency_ms[5m]))", now_ns)?;
    if let QueryValue::Vector(samples) = &answer.value {
        for sample in samples {
            println!("{:?} {:?}", sample.labels, sample.value);
        }
    }

    let table =
        database.select("SELECT count(latency_ms), max(latency_ms) FROM requests GROUP BY service")?;
    for series in &table.series {
        let numbers = series.rows.iter().flatten().filter(|cell| !matches!(cell, Cell::Time(_)));
        println!("{:?} {:?}", series.tags, numbers.collect::<Vec<_>>());
    }

    database.close()?;
    Ok(())
}
