// What a user of @medplum/core does with a gateway, step by step, by the client's own means alone.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { MedplumClient, OperationOutcomeError } from "@medplum/core";

const { VITALTRACE_FHIR: base, VITALTRACE_TOKEN: accessToken } = process.env;
const SYSTEM = "https://vitaltrace.org/clients/medplum";
const RUN = randomUUID();
const [baseUrl, fhirUrlPath] = [base.slice(0, base.lastIndexOf("/")), base.slice(base.lastIndexOf("/") + 1)];
// Nothing is kept between requests: each step sees what the gateway says.
const settings = { baseUrl, fhirUrlPath, cacheTime: 0 };
const client = new MedplumClient({ ...settings, accessToken });
// Doctors delete nothing; who keeps the records may.
const custodian = new MedplumClient({ ...settings, accessToken: process.env.VITALTRACE_CUSTODIAN });

const step = (what) => console.log(`medplum: ${what}`);

/** The codes of the OperationOutcome in the client's error, when the gateway says no. */
async function refused(act) {
  const error = await act.then(
    () => assert.fail("it was not refused"),
    (caught) => caught,
  );
  assert.ok(error instanceof OperationOutcomeError, String(error));
  return error.outcome.issue.map((issue) => issue.code);
}

step("metadata");
assert.equal((await client.get(client.fhirUrl("metadata"))).fhirVersion, "4.0.1");

step("create, read");
const person = {
  resourceType: "Patient",
  identifier: [{ system: SYSTEM, value: RUN }],
  name: [{ family: "Nobody" }],
};
const created = await client.createResource(person);
const { id } = created;
assert.deepEqual(await client.readResource("Patient", id), created);
assert.deepEqual(await client.readReference({ reference: `Patient/${id}` }), created);

step("update, and the earlier version");
const updated = await client.updateResource({ ...created, gender: "unknown" });
assert.equal(updated.meta.versionId, "2");
assert.deepEqual(await client.readVersion("Patient", id, "1"), created);

step("update with If-Match");
const held = [{ ...updated, active: true }, { headers: { "If-Match": 'W/"2"' } }];
assert.equal((await client.updateResource(...held)).meta.versionId, "3");
assert.deepEqual(await refused(client.updateResource(...held)), ["conflict"]);

step("search, page by page");
const pulses = [];
for (let minute = 0; minute < 7; minute += 1) {
  pulses.push(
    await client.createResource({
      resourceType: "Observation",
      status: "final",
      code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
      subject: { reference: `Patient/${id}` },
      effectiveDateTime: `2026-01-12T10:0${minute}:00Z`,
      valueQuantity: { value: 70 + minute, unit: "/min" },
    }),
  );
}
const query = { patient: id, code: "http://loinc.org|8867-4", _sort: "date" };
const sizes = [];
const values = [];
for await (const page of client.searchResourcePages("Observation", { ...query, _count: 3 })) {
  sizes.push(page.length);
  values.push(...page.map((pulse) => pulse.valueQuantity.value));
}
assert.deepEqual(sizes, [3, 3, 1]);
assert.deepEqual(values, [70, 71, 72, 73, 74, 75, 76]);
// Without a count the client asks for pages of a thousand.
for await (const page of client.searchResourcePages("Observation", query)) {
  assert.equal(page.length, 7);
}
assert.equal((await client.searchOne("Observation", query)).valueQuantity.value, 70);
assert.equal((await client.searchResources("Observation", { ...query, _total: "accurate" })).bundle.total, 7);

step("search with what the matches refer to");
const included = await client.search("Observation", { ...query, _count: 3, _include: "Observation:subject" });
assert.deepEqual(
  included.entry.map((entry) => entry.search.mode),
  ["match", "match", "match", "include"],
);

step("search by POST");
const form = new URLSearchParams({ ...query, _count: "2" }).toString();
const posted = await client.post(client.fhirUrl("Observation", "_search"), form, "application/x-www-form-urlencoded");
assert.equal(posted.entry.length, 2);

step("history");
const history = await client.readHistory("Patient", id);
assert.deepEqual(
  history.entry.map((entry) => entry.resource.meta.versionId),
  ["3", "2", "1"],
);

step("conditional create");
assert.equal((await client.createResourceIfNoneExist(person, `identifier=${SYSTEM}|${RUN}`)).id, id);

step("transaction");
const urn = `urn:uuid:${randomUUID()}`;
const done = await client.executeBatch({
  resourceType: "Bundle",
  type: "transaction",
  entry: [
    {
      fullUrl: urn,
      resource: { resourceType: "Patient", name: [{ family: "Nobody" }] },
      request: { method: "POST", url: "Patient" },
    },
    {
      resource: { resourceType: "Condition", subject: { reference: urn }, code: { text: "a made-up condition" } },
      request: { method: "POST", url: "Condition" },
    },
  ],
});
assert.deepEqual(
  done.entry.map((entry) => entry.response.status.slice(0, 3)),
  ["201", "201"],
);
const [patientPlace, conditionPlace] = done.entry.map((entry) => entry.response.location.split("/_history")[0]);
assert.equal((await client.readReference({ reference: conditionPlace })).subject.reference, patientPlace);

step("batch, by hand and by the client's gathering of reads");
const batch = await client.executeBatch({
  resourceType: "Bundle",
  type: "batch",
  entry: [
    { request: { method: "GET", url: `Patient/${id}` } },
    { request: { method: "GET", url: `Observation?patient=${id}&_count=2` } },
    { request: { method: "GET", url: "Patient/nobody" } },
  ],
});
assert.deepEqual(
  batch.entry.map((entry) => entry.response.status.slice(0, 3)),
  ["200", "200", "404"],
);
const gathering = new MedplumClient({ ...settings, accessToken, autoBatchTime: 20 });
const [one, many, none] = await Promise.allSettled([
  gathering.readResource("Patient", id),
  gathering.search("Observation", { patient: id, _count: 2 }),
  gathering.readResource("Patient", "nobody"),
]);
assert.equal(one.value.id, id);
assert.equal(many.value.entry.length, 2);
assert.deepEqual(await refused(Promise.reject(none.reason)), ["not-found"]);

step("summary");
assert.equal((await client.readPatientSummary(id)).type, "document");

step("JSON Patch, conditional update and delete");
const operations = [{ op: "replace", path: "/active", value: false }];
assert.equal((await client.patchResource("Patient", id, operations)).active, false);
const third = { resourceType: "Patient", identifier: [{ system: SYSTEM, value: `${RUN}-third` }] };
const thirds = { identifier: `${SYSTEM}|${RUN}-third` };
assert.equal((await client.upsertResource(third, thirds)).meta.versionId, "1");
assert.equal((await client.upsertResource({ ...third, gender: "other" }, thirds)).meta.versionId, "2");
const byIdentifier = client.fhirSearchUrl("Patient", thirds);
assert.deepEqual(await refused(client.delete(byIdentifier)), ["forbidden"]);
await custodian.delete(byIdentifier);
assert.equal(await client.searchOne("Patient", thirds), undefined);

step("validation, and everything of a patient");
assert.equal((await client.validateResource({ resourceType: "Patient" })).issue[0].severity, "information");
const outcome = await client.validateResource({ resourceType: "Patient", gender: "nonsense" });
assert.equal(outcome.issue[0].code, "code-invalid");
const everything = await client.readPatientEverything(id);
assert.ok(everything.entry.some((entry) => entry.resource.resourceType === "Observation"));

step("delete");
assert.deepEqual(await refused(client.deleteResource("Observation", pulses[0].id)), ["forbidden"]);
await custodian.deleteResource("Observation", pulses[0].id);
assert.deepEqual(await refused(client.readResource("Observation", pulses[0].id)), ["deleted"]);

step("what is wrong");
assert.ok((await refused(client.updateResource({ ...pulses[1], status: "nonsense" }))).length > 0);
assert.deepEqual(await refused(client.readResource("Patient", "nobody")), ["not-found"]);
assert.deepEqual(await refused(client.search("Patient", { colour: "red" })), ["not-supported"]);
await assert.rejects(new MedplumClient(settings).readResource("Patient", id));

console.log("medplum: done");
