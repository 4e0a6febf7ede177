// What clients of npm say of a server, as JSON: the editor of Prometheus' own UI (@prometheus-io/codemirror-promql, completion
// included) and prometheus-query. Started by `readers` as `node readers.mjs URL END_S` where both are installed.

import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { HTTPPrometheusClient } = require("@prometheus-io/codemirror-promql/dist/cjs/client/prometheus.js");
const { PromQLExtension, newCompleteStrategy } = require("@prometheus-io/codemirror-promql");
const { CompletionContext } = require("@codemirror/autocomplete");
const { EditorState } = require("@codemirror/state");
const { PrometheusDriver } = require("prometheus-query");

const [url, end] = [process.argv[2], Number(process.argv[3])];
const said = {};

async function say(name, ask) {
  try {
    said[name] = await ask();
  } catch (error) {
    said[name] = { error: String(error.message ?? error) };
  }
}

function sorted(values) {
  const order = (one) => JSON.stringify(one);
  return [...values].sort((one, other) => (order(one) < order(other) ? -1 : 1));
}

for (const httpMethod of ["GET", "POST"]) {
  const failures = [];
  // The client turns failures into empty lists and tells them here.
  const httpErrorHandler = (error) => failures.push(String(error.message ?? error));
  const client = new HTTPPrometheusClient({ url, httpMethod, lookbackInterval: 12 * 3600 * 1000, httpErrorHandler });
  await say(`editor ${httpMethod}: names of labels`, () => client.labelNames());
  await say(`editor ${httpMethod}: names of labels of a metric`, () => client.labelNames("shop_requests_total"));
  await say(`editor ${httpMethod}: values of a label`, () => client.labelValues("code"));
  await say(`editor ${httpMethod}: values of a label of a metric`, () => client.labelValues("path", "shop_requests_total"));
  await say(`editor ${httpMethod}: names of metrics`, () => client.metricNames());
  await say(`editor ${httpMethod}: series`, async () => sorted(await client.series("shop_temperature")));
  await say(`editor ${httpMethod}: no series`, () => client.series("nosuch"));
  await say(`editor ${httpMethod}: metadata`, async () => typeof (await client.metricMetadata()));
  await say(`editor ${httpMethod}: flags`, async () => Object.values(await client.flags()).every((one) => typeof one === "string"));
  await say(`editor ${httpMethod}: values for a bad selector`, () => client.labelValues("code", "a b"));
  await say(`editor ${httpMethod}: failures`, () => failures.length);

  const strategy = newCompleteStrategy({ remote: { url, httpMethod } });
  for (const text of ["shop_", "sum(rate(shop_re", "shop_requests_total{co", 'shop_requests_total{code="', 'shop_requests_total{code="200",path="']) {
    await say(`editor ${httpMethod}: completes ${text}`, async () => {
      const state = EditorState.create({ doc: text, extensions: [new PromQLExtension().asExtension()] });
      const found = await strategy.promQL(new CompletionContext(state, text.length, true));
      const words = (found?.options ?? []).map((one) => one.label);
      return sorted(words.filter((word) => /^(shop|code|path|instance|job|[0-9/])/.test(word)));
    });
  }
  strategy.destroy?.();
  client.destroy();
}

const plain = (result) => ({
  type: result.resultType,
  // A scalar and a string come bare.
  result: Array.isArray(result.result) ? sorted(result.result.map(({ metric, value, values }) => ({ metric: { ...metric }, value, values }))) : result.result,
});

for (const preferPost of [false, true]) {
  const how = preferPost ? "POST" : "GET";
  const driver = new PrometheusDriver({ endpoint: url, preferPost });
  const range = [new Date((end - 600) * 1000), new Date(end * 1000)];
  for (const query of ["shop_requests_total", "sum by (code) (rate(shop_requests_total[5m]))", "shop_temperature", "nosuch", "1 + 1", "shop_requests_total[1m]"]) {
    await say(`prometheus-query ${how}: ${query}`, async () => plain(await driver.instantQuery(query, end * 1000)));
  }
  await say(`prometheus-query ${how}: over a range`, async () => plain(await driver.rangeQuery("rate(shop_requests_total[2m])", ...range, 30)));
  await say(`prometheus-query ${how}: over a range, step as text`, async () => plain(await driver.rangeQuery("shop_temperature", ...range, "1m", "10s")));
  await say(`prometheus-query ${how}: a query that is none`, () => driver.instantQuery("sum("));
  await say(`prometheus-query ${how}: no step`, () => driver.rangeQuery("shop_temperature", ...range, 0));
  await say(`prometheus-query ${how}: series`, async () => sorted((await driver.series(["shop_temperature", 'shop_requests_total{code="500"}'], ...range)).map((one) => ({ ...one }))));
  await say(`prometheus-query ${how}: names`, () => driver.labelNames(["shop_requests_total"], ...range));
  await say(`prometheus-query ${how}: values`, () => driver.labelValues("room", ["shop_temperature"], ...range));
  for (const page of ["rules", "alerts", "alertmanagers", "targets"]) {
    await say(`prometheus-query ${how}: ${page}`, () => driver[page]());
  }
  await say(`prometheus-query ${how}: metadata of no metric`, () => driver.metadata("nosuch"));
  for (const page of ["statusFlags", "statusRuntimeInfo", "statusBuildinfo", "statusTSDB"]) {
    await say(`prometheus-query ${how}: ${page}`, async () => typeof (await driver[page]()));
  }
}
console.log(JSON.stringify(said));
