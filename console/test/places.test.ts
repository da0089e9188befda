// Addresses of the page and of the server; the last hour as tables.
import { describe, expect, it } from "vitest";
import { paths, segment, type Traffic } from "../src/api";
import { hashOf, placeOf, type Place } from "../src/router";
import { perSecond, since, summaryOf, tableOf } from "../src/traffic";

describe("places", () => {
  it.each<[string, Place]>([
    ["", { page: "models" }],
    ["#/", { page: "models" }],
    ["#/models", { page: "models" }],
    ["#/models/a", { page: "model", name: "a" }],
    ["#/models/a%2Fb", { page: "model", name: "a/b" }],
    ["#/try", { page: "try", name: null }],
    ["#/traffic/m", { page: "traffic", name: "m" }],
    ["#/manage", { page: "manage" }],
    ["#/manage/x", { page: "unknown" }],
    ["#/<script>", { page: "unknown" }],
    ["#/models/%", { page: "unknown" }],
  ])("%s", (hash, place) => {
    expect(placeOf(hash)).toEqual(place);
  });
  it("lead back to any name", () => {
    for (const name of ["a", "a/b", "<img src=x onerror=alert(1)>", "\u202ex", "100%", "..", "#", "'\"()!*"]) {
      expect(placeOf(hashOf({ page: "model", name }))).toEqual({ page: "model", name });
      expect(placeOf(hashOf({ page: "try", name }))).toEqual({ page: "try", name });
    }
  });
});

describe("paths", () => {
  it("have names as one segment", () => {
    expect(paths.model("a/b?c#d")).toBe("console/api/models/a%2Fb%3Fc%23d");
    expect(paths.predict("a:b", 3)).toBe("v1/models/a%3Ab/versions/3:predict");
    expect(paths.manage("m", "labels")).toBe("admin/models/m/labels");
    expect(segment("'()!*")).toBe("%27%28%29%21%2A");
    expect(segment("\ud800")).toBe("%EF%BF%BD");
  });
  it("leave out what is not asked for", () => {
    expect(paths.models("", null, 50)).toBe("console/api/models?limit=50");
    expect(paths.models("a b&c", "m", 50)).toBe("console/api/models?search=a%20b%26c&after=m&limit=50");
    expect(paths.traffic("", 3600)).toBe("console/api/traffic?seconds=3600");
  });
});

describe("traffic", () => {
  const column = [1, null, 3, 4];
  const traffic: Traffic = {
    interval_seconds: 5,
    t: [100, 105, 110, 115],
    ...{ requests: column, errors: column, p50_ms: column, p90_ms: column, p99_ms: column },
    ...{ batch_rows: column, queue_ms: column, in_flight: column, cpu_cores: column, resident_bytes: column },
    models: ["a", "b", "c", "d", "e"],
  };
  it("is cut to the time that is shown", () => {
    const cutOff = since(traffic, 10);
    expect([cutOff.t, cutOff.requests, cutOff.models.length, cutOff.interval_seconds]).toEqual([[110, 115], [3, 4], 5, 5]);
    expect(since(traffic, 3600)).toBe(traffic);
    expect(since({ ...traffic, t: [] }, 10).t).toEqual([]);
  });
  it("is told per second, as what is now and what was most", () => {
    expect(perSecond([10, null], 5)).toEqual([2, null]);
    expect(summaryOf([1, 9, null, 3])).toEqual({ now: 3, highest: 9 });
    expect(summaryOf([])).toEqual({ now: null, highest: null });
  });
  it("is a table of minutes, the newest first", () => {
    const rows = tableOf([60, 65, 125], [{ label: "a", values: [1, 5, null] }, { label: "b", values: [null, 2, 7] }]);
    expect(rows).toEqual([{ at: 120, values: [null, 7] }, { at: 60, values: [5, 2] }]);
  });
});
