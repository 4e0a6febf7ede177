//! Data for the benches: deterministic, built from a fixed seed, in the shapes that the notes measure.

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that always gives the same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of mean 0 and deviation 1, near enough to normal: the sum of twelve uniform ones. Only additions, so
    /// that it is the same on every machine.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// First timestamp of all generated lines.
pub(crate) const START_NS: i64 = 1_451_606_400_000_000_000;

/// Lines of the shape of TSBS cpu-only: 10 tags, 10 integer fields, about 344 bytes, each host every 10 s. As in TSBS
/// every field of every host is a random walk of its own: a start in 0..100, steps of normal(0, 1), clamped to 0..100
/// and written as the nearest whole number.
pub(crate) fn tsbs_lines(hosts: u64, count: usize) -> String {
    const FIELDS: [&str; 10] =
        ["user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
    let mut random = Random::new(7);
    let walks = hosts as usize * FIELDS.len();
    let mut walks: Vec<f64> = (0..walks).map(|_| random.unit() * 100.0).collect();
    let mut lines = String::with_capacity(count * 350);
    for index in 0..count as u64 {
        let (host, step) = (index % hosts, index / hosts);
        lines.push_str(&format!(
            "cpu,hostname=host_{host},region=eu-central-1,datacenter=eu-central-1a,rack={},os=Ubuntu15.10,\
             arch=x86,team=SF,service={},service_version={},service_environment=test",
            host % 97,
            host % 19,
            host % 2,
        ));
        for (position, field) in FIELDS.iter().enumerate() {
            let walk = &mut walks[host as usize * FIELDS.len() + position];
            *walk = (*walk + random.normal()).clamp(0.0, 100.0);
            let before = if position == 0 { ' ' } else { ',' };
            lines.push_str(&format!("{before}usage_{field}={}i", walk.round()));
        }
        lines.push_str(&format!(" {}\n", START_NS + step as i64 * 10_000_000_000));
    }
    lines
}

/// Lines of request events: 3 tags, 5 fields of mixed types, about 157 bytes, irregular times.
pub(crate) fn event_lines(count: usize) -> String {
    const SERVICES: [&str; 4] = ["checkout", "search", "payments", "accounts"];
    let mut random = Random::new(11);
    let mut lines = String::with_capacity(count * 160);
    let mut ts_ns = START_NS;
    for _ in 0..count {
        ts_ns += random.below(2_000_000) as i64;
        lines.push_str(&format!(
            "requests,service={},region=eu-west-{},endpoint=/api/v1/orders latency_ms={}.{:03},status={}i,\
             bytes={}i,user=\"u{:08x}\",cached={} {ts_ns}\n",
            SERVICES[random.below(4) as usize],
            random.below(3),
            random.below(900),
            random.below(1_000),
            if random.below(50) == 0 { 500 } else { 200 },
            random.below(200_000),
            random.below(1 << 32),
            if random.below(4) == 0 { "true" } else { "false" },
        ));
    }
    lines
}
