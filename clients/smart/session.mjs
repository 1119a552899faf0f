// What an app made with fhirclient (SMART on FHIR) does with a gateway, and what its users do in their browsers, step by step.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import smart from "fhirclient";

const { VITALTRACE_URL: url, VITALTRACE_FHIR: iss, VITALTRACE_TOKEN: token } = process.env;
const { VITALTRACE_PROGRAM: program, VITALTRACE_CONFIG: config } = process.env;
const PASSWORD = "a password for tests";
const RUN = randomUUID();
const step = (what) => console.log(`smart: ${what}`);

/** Runs the program as an administrator of the organisation. */
function administer(args, input = "") {
  const { status, stdout, stderr } = spawnSync(program, args, { input, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

/** A request of the clinician's own system. */
async function own(method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/fhir+json" };
  const response = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
}

// The app: a server of its own, in the way that fhirclient's documentation shows.
const SCOPE = "openid fhirUser offline_access patient/*.read";
const sessions = new Map();
let ready;
const app = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const name = pathname.split("/")[1];
  if (!sessions.has(name)) sessions.set(name, {});
  request.session = sessions.get(name);
  const client = smart(request, response);
  try {
    if (pathname.endsWith("/launch")) {
      const scope = searchParams.has("launch") ? `launch ${SCOPE}` : `launch/patient ${SCOPE}`;
      await client.authorize({ clientId: "smart-app", redirectUri: `${origin}/${name}/back`, scope, iss });
    } else {
      ready(await client.ready());
      response.end("You may close this window.");
    }
  } catch (error) {
    ready(Promise.reject(error));
    response.writeHead(500).end(String(error));
  }
});
await new Promise((listening) => app.listen(0, "127.0.0.1", listening));
const origin = `http://127.0.0.1:${app.address().port}`;

/** A person's browser: it follows redirects, keeps cookies, and fills the forms that it is shown. */
async function browse(start, fill) {
  const cookies = new Map();
  let [at, options] = [start, {}];
  for (let steps = 0; steps < 12; steps += 1) {
    const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; "), ...options.headers };
    const response = await fetch(at, { ...options, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [name, value] = cookie.split(";")[0].split("=");
      cookies.set(name, value);
    }
    if (response.status >= 300 && response.status < 400) {
      [at, options] = [new URL(response.headers.get("location"), at).href, {}];
      continue;
    }
    const page = await response.text();
    if (!page.includes("<form")) return page;
    const hidden = [...page.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]);
    const form = new URLSearchParams([...hidden, ...Object.entries(fill(Object.fromEntries(hidden).step))]);
    const action = page.match(/action="([^"]+)"/)[1];
    [at, options] = [new URL(action, at).href, { method: "POST", body: form }];
  }
  throw new Error("the pages lead nowhere");
}

/** Launches the app, and gives its client when it is ready. */
async function launched(name, query, fill) {
  const client = new Promise((resolve) => {
    ready = resolve;
  });
  // It may have failed before anybody looks.
  client.catch(() => {});
  await browse(`${origin}/${name}/launch?${new URLSearchParams(query)}`, fill);
  return client;
}

const patient = await own("POST", "/fhir/Patient", {
  resourceType: "Patient",
  identifier: [{ system: "https://vitaltrace.org/clients/smart", value: RUN }],
  name: [{ family: "Launch", given: ["Lena"] }],
});
await own("POST", "/fhir/Observation", {
  resourceType: "Observation",
  status: "final",
  code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
  subject: { reference: `Patient/${patient.id}` },
  effectiveDateTime: "2026-11-21T10:00:00Z",
  valueQuantity: { value: 72, unit: "/min", system: "http://unitsofmeasure.org", code: "/min" },
});

step("an administrator registers the app");
const redirects = ["ehr", "alone", "patient"].flatMap((name) => ["--redirect", `${origin}/${name}/back`]);
const registered = ["--id", "smart-app", "--name", "A SMART app", "--scope", `launch launch/patient ${SCOPE}`];
administer(["app", "add", "--config", config, ...registered, ...redirects]);
administer(["user", "--config", config, "--name", "lena", "--role", "patient", "--patient", patient.id], `${PASSWORD}\n`);
// The gateway looks at the files several times a second.
await new Promise((later) => setTimeout(later, 500));

/** What every one of these sessions can do. */
async function used(client) {
  assert.equal(client.patient.id, patient.id);
  const self = await client.patient.read();
  assert.equal(self.name[0].family, "Launch");
  const found = await client.patient.request("Observation");
  assert.equal(found.entry.filter(({ resource }) => resource.resourceType === "Observation").length, 1);
  const refused = await client.create({ resourceType: "Patient", name: [{ family: "Nobody" }] }).then(
    () => assert.fail("an app that may read has written"),
    (error) => error,
  );
  assert.equal(refused.statusCode, 403);
}

step("EHR launch: the clinician's system launches the app for a patient");
const { launch } = await own("POST", "/auth/launch", { patient: patient.id });
const clinician = (page) => (page === "login" ? { username: "doctor", password: PASSWORD } : { answer: "yes" });
const inside = await launched("ehr", { iss, launch }, clinician);
await used(inside);
assert.equal(inside.user.id, null, "nobody said who the doctor is in the directory");

step("standalone launch: the clinician chooses the patient");
const chooses = (page) => (page === "patient" ? { patient: RUN } : clinician(page));
const alone = await launched("alone", { iss }, chooses);
await used(alone);

step("standalone launch: a patient");
const own_record = (page) => (page === "login" ? { username: "lena", password: PASSWORD } : { answer: "yes" });
const lena = await launched("patient", { iss }, own_record);
await used(lena);
assert.equal(lena.user.fhirUser.replace(`${iss}/`, ""), `Patient/${patient.id}`);

step("refresh");
const before = lena.state.tokenResponse.access_token;
await lena.refresh();
assert.notEqual(lena.state.tokenResponse.access_token, before);
await used(lena);

step("a person who does not let the app in");
const refuses = (page) => (page === "login" ? { username: "lena", password: PASSWORD } : { answer: "no" });
await assert.rejects(launched("patient", { iss }, refuses), /access_denied/);

step("the administrator takes the app back");
administer(["app", "remove", "--config", config, "--id", "smart-app"]);
await new Promise((later) => setTimeout(later, 500));
await assert.rejects(lena.patient.read(), ({ statusCode }) => statusCode === 401);

app.close();
step("done");
