// What a user of fhir-kit-client does with a gateway, step by step, by the client's own means alone.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Client } from "fhir-kit-client";

const { VITALTRACE_FHIR: baseUrl, VITALTRACE_TOKEN: bearerToken } = process.env;
const SYSTEM = "https://vitaltrace.org/clients/fhir-kit-client";
const RUN = randomUUID();
const client = new Client({ baseUrl, bearerToken });
// Doctors delete nothing; who keeps the records may.
const custodian = new Client({ baseUrl, bearerToken: process.env.VITALTRACE_CUSTODIAN });

const step = (what) => console.log(`fhir-kit-client: ${what}`);

/** The client's error when the gateway says no: status and codes of the OperationOutcome. */
async function refused(act) {
  const { response } = await act.then(
    () => assert.fail("it was not refused"),
    (error) => error,
  );
  assert.equal(response.data.resourceType, "OperationOutcome");
  return [response.status, ...response.data.issue.map((issue) => issue.code)];
}

step("metadata");
const statement = await client.capabilityStatement();
assert.equal(statement.fhirVersion, "4.0.1");

step("create, read");
const person = {
  resourceType: "Patient",
  identifier: [{ system: SYSTEM, value: RUN }],
  name: [{ family: "Nobody" }],
};
const created = await client.create({ resourceType: "Patient", body: person });
const id = created.id;
const { response } = Client.httpFor(created);
assert.equal(response.status, 201);
assert.equal(response.headers.get("location"), `${baseUrl}/Patient/${id}/_history/1`);
assert.deepEqual({ ...(await client.read({ resourceType: "Patient", id })) }, { ...created });

step("update, and the earlier version");
const body = { ...created, gender: "unknown" };
assert.equal((await client.update({ resourceType: "Patient", id, body })).meta.versionId, "2");
const first = await client.vread({ resourceType: "Patient", id, version: "1" });
assert.equal(first.gender, undefined);

step("update with If-Match");
const held = { resourceType: "Patient", id, body: { ...body, active: true }, options: { headers: { "If-Match": 'W/"2"' } } };
assert.equal((await client.update(held)).meta.versionId, "3");
assert.deepEqual(await refused(client.update(held)), [412, "conflict"]);

step("search, page by page, by GET and by POST");
const pulses = [];
for (let minute = 0; minute < 7; minute += 1) {
  const pulse = {
    resourceType: "Observation",
    status: "final",
    code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
    subject: { reference: `Patient/${id}` },
    effectiveDateTime: `2026-01-12T10:0${minute}:00Z`,
    valueQuantity: { value: 70 + minute, unit: "/min" },
  };
  pulses.push(await client.create({ resourceType: "Observation", body: pulse }));
}
const searchParams = { patient: id, code: "http://loinc.org|8867-4", _sort: "date", _count: 3, _total: "accurate" };
for (const postSearch of [false, true]) {
  const values = [];
  const sizes = [];
  let bundle = await client.search({ resourceType: "Observation", searchParams, options: { postSearch } });
  assert.equal(bundle.total, 7);
  while (bundle) {
    sizes.push(bundle.entry.length);
    values.push(...bundle.entry.map((entry) => entry.resource.valueQuantity.value));
    bundle = await client.nextPage({ bundle });
  }
  assert.deepEqual(sizes, [3, 3, 1]);
  assert.deepEqual(values, [70, 71, 72, 73, 74, 75, 76]);
}

step("search with what the matches refer to");
const included = await client.search({
  resourceType: "Observation",
  searchParams: { ...searchParams, _include: "Observation:subject" },
});
assert.deepEqual(
  included.entry.map((entry) => entry.search.mode),
  ["match", "match", "match", "include"],
);
const { reference } = included.entry[0].resource.subject;
assert.equal((await client.resolve({ reference, context: included })).id, id);
assert.equal((await client.resolve({ reference: included.entry[3].fullUrl })).id, id);

step("search of several types at once, and of a compartment");
for (const postSearch of [false, true]) {
  const options = { postSearch };
  const types = { _type: "Encounter,Observation", patient: id, _sort: "-date,_id", _total: "accurate" };
  assert.equal((await client.systemSearch({ searchParams: types, options })).total, 7);
  const compartment = { resourceType: "Patient", id };
  const sorted = { _sort: "-value-quantity", _count: 2 };
  let bundle = await client.compartmentSearch({ resourceType: "Observation", compartment, searchParams: sorted, options });
  const values = [];
  while (bundle) {
    values.push(...bundle.entry.map((entry) => entry.resource.valueQuantity.value));
    bundle = await client.nextPage({ bundle });
  }
  assert.deepEqual(values, [76, 75, 74, 73, 72, 71, 70]);
}

step("history");
const history = await client.history({ resourceType: "Patient", id });
assert.deepEqual(
  history.entry.map((entry) => entry.resource.meta.versionId),
  ["3", "2", "1"],
);

step("conditional create");
const options = { headers: { "If-None-Exist": `identifier=${SYSTEM}|${RUN}` } };
const same = await client.create({ resourceType: "Patient", body: person, options });
assert.equal(same.id, id);
assert.equal(Client.httpFor(same).response.status, 200);

step("transaction");
const urn = `urn:uuid:${randomUUID()}`;
const transaction = {
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
};
const done = await client.transaction({ body: transaction });
assert.deepEqual(
  done.entry.map((entry) => entry.response.status.slice(0, 3)),
  ["201", "201"],
);
const [patientPlace, conditionPlace] = done.entry.map((entry) => entry.response.location.split("/_history")[0]);
const condition = await client.resolve({ reference: conditionPlace });
assert.equal(condition.subject.reference, patientPlace);

step("batch");
const batch = {
  resourceType: "Bundle",
  type: "batch",
  entry: [
    { request: { method: "GET", url: `Patient/${id}` } },
    { request: { method: "GET", url: `Observation?patient=${id}&_count=2&_total=accurate` } },
    { request: { method: "GET", url: "Patient/nobody" } },
  ],
};
const answers = await client.batch({ body: batch });
assert.deepEqual(
  answers.entry.map((entry) => entry.response.status.slice(0, 3)),
  ["200", "200", "404"],
);
assert.equal(answers.entry[1].resource.total, 7);

step("summary, by GET and by POST");
for (const method of ["GET", "POST"]) {
  const summary = await client.operation({ name: "summary", resourceType: "Patient", id, method });
  assert.equal(summary.type, "document");
}

step("JSON Patch, conditional update and delete");
const jsonPatch = [{ op: "replace", path: "/active", value: false }];
assert.equal((await client.patch({ resourceType: "Patient", id, jsonPatch })).active, false);
const third = { resourceType: "Patient", identifier: [{ system: SYSTEM, value: `${RUN}-third` }] };
const conditional = { resourceType: "Patient", searchParams: { identifier: `${SYSTEM}|${RUN}-third` }, body: third };
assert.equal(Client.httpFor(await client.update(conditional)).response.status, 201);
assert.equal((await client.update(conditional)).meta.versionId, "2");
const byIdentifier = `Patient?identifier=${SYSTEM}|${RUN}-third`;
assert.deepEqual(await refused(client.request(byIdentifier, { method: "DELETE" })), [403, "forbidden"]);
await custodian.request(byIdentifier, { method: "DELETE" });
assert.equal((await client.search(conditional)).total, 0);

step("histories of a type and of the system, and everything of a patient");
for (const of of [{ resourceType: "Patient" }, {}]) {
  const versions = await client.history(of);
  assert.equal(versions.type, "history");
  assert.ok(versions.entry.length > 2);
}
const everything = await client.operation({ name: "everything", resourceType: "Patient", id });
assert.ok(everything.entry.some((entry) => entry.resource.resourceType === "Observation"));

step("delete");
const oldest = { resourceType: "Observation", id: pulses[0].id };
assert.deepEqual(await refused(client.delete(oldest)), [403, "forbidden"]);
await custodian.delete(oldest);
assert.deepEqual(await refused(client.read(oldest)), [410, "deleted"]);

step("what is wrong");
const wrong = { ...pulses[1], status: "nonsense" };
assert.equal((await refused(client.update({ resourceType: "Observation", id: pulses[1].id, body: wrong })))[0], 422);
assert.deepEqual(await refused(client.read({ resourceType: "Patient", id: "nobody" })), [404, "not-found"]);
assert.deepEqual(await refused(client.read({ resourceType: "Nothing", id: "1" })), [404, "not-found"]);
const colour = client.search({ resourceType: "Patient", searchParams: { colour: "red" } });
assert.deepEqual(await refused(colour), [422, "not-supported"]);
const stranger = new Client({ baseUrl });
assert.deepEqual(await refused(stranger.read({ resourceType: "Patient", id })), [401, "login"]);

console.log("fhir-kit-client: done");
