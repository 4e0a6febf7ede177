//! The page of /federate through the router.

use super::remote::v1;
use super::*;
use crate::ingest::remote::messages::series;

#[test]
fn page_has_the_newest_sample_of_each_series_that_goes_on() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let written = vec![
        series(&[("__name__", "up"), ("job", "b")], &[(1.0, now - 9_000), (0.5, now - 1_001)]),
        series(&[("__name__", "up"), ("job", "a")], &[(3.0, now - 299_999)]),
        series(&[("__name__", "up"), ("job", "old")], &[(3.0, now - 300_000)]),
        series(&[("__name__", "up"), ("job", "gone")], &[(3.0, now - 2_000), (stale, now - 1_000)]),
        series(&[("__name__", "up"), ("job", "back")], &[(stale, now - 2_000), (4.0, now - 1_000)]),
        series(&[("__name__", "up"), ("job", "ahead")], &[(8.0, now - 1), (9.0, now + 1)]),
        series(&[("__name__", "cpu"), ("instance", "i")], &[(2.0, now)]),
        series(&[("__name__", "other")], &[(2.0, now)]),
    ];
    assert_eq!(rig.post("/api/v1/write", &[], v1(written)).0, 204);
    let wanted = format!(
        "# TYPE cpu untyped\n\
         cpu{{instance=\"i\"}} 2 {now}\n\
         # TYPE up untyped\n\
         up{{job=\"a\",instance=\"\"}} 3 {}\n\
         up{{job=\"ahead\",instance=\"\"}} 8 {}\n\
         up{{job=\"b\",instance=\"\"}} 0.5 {}\n\
         up{{job=\"back\",instance=\"\"}} 4 {}\n",
        now - 299_999,
        now - 1,
        now - 1_001,
        now - 1_000,
    );
    // Twice the same series is once.
    let path = "/federate?match[]=up&match[]={__name__=~%22up|cpu%22}";
    for round in ["in memory", "in segments"] {
        assert_eq!(rig.get(path), wanted, "{round}");
        assert_eq!(rig.get(&format!("/db/default{path}")), wanted, "{round}");
        rig.databases.all().iter().for_each(|database| database.flush().unwrap());
    }
    assert_eq!(rig.get("/federate?match[]=up{job=%22a%22}&lookback_delta=60"), "");
    assert_eq!(rig.get("/federate"), "");
}

#[test]
fn page_leaves_out_native_histograms_and_takes_the_newer_of_two_fields() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns();
    let (before, ms) = (now - 5_000_000_000, now / 1_000_000);
    let lines = [
        format!("h,k=a value=1 {before}"),
        format!("h,k=a __histogram__=\"0;0;u;2;3;0;1:2;\" {now}"),
        format!("h,k=b __histogram__=\"0;0;u;2;3;0;1:2;\" {before}"),
        format!("h,k=b value=7 {now}"),
        // Two fields of one metric.
        format!("x_y z=1 {before}"),
        format!("x y_z=2 {now}"),
        format!("any\\ name,tag\\ key=v value=3 {now}"),
    ];
    assert_eq!(rig.write(&lines.join("\n")).0, 204);
    let page = rig.get("/federate?match[]={__name__=~%22.%2B%22}");
    let wanted = format!(
        "# TYPE any_name untyped\nany_name{{tag_key=\"v\",instance=\"\"}} 3 {ms}\n\
         # TYPE h untyped\nh{{k=\"b\",instance=\"\"}} 7 {ms}\n\
         # TYPE x_y_z untyped\nx_y_z{{instance=\"\"}} 2 {ms}\n"
    );
    assert_eq!(page, wanted);
}

#[test]
fn page_refuses_what_is_no_selector_and_what_is_too_much() {
    let rig = Rig::new(Options::default());
    for bad in ["up{", "{}", "{__name__=~%22.*%22}", "sum(up)", "up[5m]", "up{__stat__=%22sum%22}", "7"] {
        let (status, _, body) = rig.send(Method::GET, &format!("/federate?match[]=up&match[]={bad}"), "");
        assert_eq!(status, 400, "{bad}: {body}");
        assert!(body.contains("\"bad_data\"") && body.contains("match[]"), "{bad}: {body}");
    }
    assert_eq!(rig.send(Method::GET, "/db/nowhere/federate?match[]=up", "").0, 404);
    assert_eq!(rig.send(Method::POST, "/federate", "").0, 405);

    let mut limits = Limits::default();
    limits.query.memory_bytes_max = 64 << 10;
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let now = rig.now_ns();
    let lines: String = (0..1000).map(|host| format!("m,host=host_{host} value=1 {now}\n")).collect();
    assert_eq!(rig.write(&lines).0, 204);
    let (status, _, body) = rig.send(Method::GET, "/federate?match[]=m", "");
    assert_eq!(status, 422, "{body}");
    assert!(body.contains("memory"), "{body}");
    assert_eq!(rig.get("/federate?match[]=m{host=%22host_7%22}").lines().count(), 2);
}
