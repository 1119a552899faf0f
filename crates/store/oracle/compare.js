// Compares the values that the store extracted with those of R4's own expressions, for every parameter of every resource.
//
// Usage: node compare.js DEFINITIONS EXTRACTED...; the latter are what the store's example `extracted` wrote. What the values are compared
// as stands in values.js; parameters that are left out on purpose stand below, each with its reason. All others must find something.

import fhirpath from 'fhirpath';
import r4 from 'fhirpath/fhir-context/r4/index.js';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { searchParameters, structures } from './definitions.js';
import { written } from './values.js';

/** The store cuts longer texts, in bytes. */
const TEXT_BYTES_MAX = 512;
/** Differences that are shown one by one. */
const SHOWN_MAX = 20;

/** Not compared; the table of parameters in `src/extract/r4.txt` says the same in its head. */
const LEFT_OUT = new Map([
  ['Resource _id', 'a column of the record'],
  ['Resource _lastUpdated', 'a column of the record'],
  ['Resource _content', 'has no expression'],
  ['Resource _query', 'has no expression'],
  ['DomainResource _text', 'has no expression'],
  ['Location near', 'is no value but a distance'],
  ['Bundle composition', 'leads to a record inside of the Bundle'],
  ['Bundle message', 'leads to a record inside of the Bundle'],
  ['DeviceDefinition classification', 'names an element that R4 does not have'],
  ['MolecularSequence chromosome-variant-coordinate', 'combines an element with one outside of it'],
  ['MolecularSequence referenceseqid-variant-coordinate', 'combines an element with one outside of it'],
]);

/** The type that a reference leads to, as far as it says itself: nothing is fetched. */
function leadsTo(nodes) {
  return nodes.flatMap((node) => {
    const value = node?.data ?? node;
    const text = typeof value === 'string' ? value : (value?.reference ?? '');
    if (text === '' || text.startsWith('#') || text.includes('?')) return [];
    const inAddress = /([A-Z][A-Za-z]*)\/[^/]+$/.exec(text.split('/_history/')[0])?.[1];
    return inAddress ?? value?.type ?? [];
  });
}

const options = { resolveInternalTypes: false, userInvocationTable: { leadsTo: { fn: leadsTo, arity: { 0: [] } } } };
/**
 * An expression with what R4 means by it: R4 writes `as` of lists, for which FHIRPath has `ofType`, and once `DateTime` for `dateTime`.
 * What a reference leads to is not fetched; its type is what the reference says.
 */
const meant = (expression) =>
  expression
    .replace(/\(([\w.]+) as (\w+)\)/g, '$1.ofType($2)')
    .replaceAll('.as(', '.ofType(')
    .replaceAll('(DateTime)', '(dateTime)')
    .replace(/resolve\(\) is (\w+)/g, "leadsTo() = '$1'");
const compiled = (expression) => fhirpath.compile(meant(expression), r4, options);

/** The operands of a union. Each is evaluated alone: a union compares all values, and fails on quantities with a comparator. */
function operands(expression) {
  const parts = [''];
  let depth = 0;
  for (const c of expression) {
    depth += c === '(' ? 1 : c === ')' ? -1 : 0;
    if (c === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += c;
  }
  return parts.map((part) => part.trim());
}

/** Whether an operand begins at this type; those that begin at another one find nothing. */
function isOf(rtype, operand) {
  const first = /^\(?(\w+)/.exec(operand)[1];
  return [rtype, 'Resource', 'DomainResource'].includes(first) || /^[a-z]/.test(first);
}

/** What expressions find: each value with its FHIR type. */
function found(runs, resource) {
  return runs.flatMap((run) =>
    run(resource).map((node) => (node?.fhirNodeDataType === undefined ? [typeof node, node] : [node.fhirNodeDataType, node.data])),
  );
}

const published = searchParameters(process.argv[2]);
const types = structures(process.argv[2]);
const byUrl = new Map(published.map((of) => [of.url, of]));
const seen = new Set();

/** The published parameters of a type by name, each as a function from a resource to written values. */
const parametersOf = new Map();
function parameters(rtype) {
  if (!parametersOf.has(rtype)) {
    const own = new Map();
    for (const of of published) {
      const base = of.base.find((base) => [rtype, 'Resource', 'DomainResource'].includes(base));
      if (base === undefined || LEFT_OUT.has(`${base} ${of.code}`)) continue;
      own.set(of.code, of.type === 'composite' ? composite(rtype, of) : simple(rtype, of));
    }
    parametersOf.set(rtype, own);
  }
  return parametersOf.get(rtype);
}

function simple(rtype, of) {
  const runs = operands(of.expression).filter((operand) => isOf(rtype, operand)).map(compiled);
  return (resource) => found(runs, resource).flatMap(([type, value]) => written(of.type, type, value));
}

/** The values of the components of each element that a composite is rooted in, all with all. */
function composite(rtype, of) {
  const roots = of.expression.split('|').map((root) => root.trim()).filter((root) => root.split('.')[0] === rtype);
  const lists = roots.map((root) => {
    // `as` of an element of a list needs its place: components are evaluated from the resource down, one element at a time.
    const count = root === rtype ? undefined : compiled(`${root}.count()`);
    const parts = of.component.map((component) => [kindOf(rtype, root, component), component.expression]);
    return { root, count, parts };
  });
  const runs = new Map();
  const run = (expression) => {
    if (!runs.has(expression)) runs.set(expression, operands(expression).map(compiled));
    return runs.get(expression);
  };
  return (resource) =>
    lists.flatMap(({ root, count, parts }) => {
      const elements = count === undefined ? [root] : Array.from({ length: count(resource)[0] }, (_, at) => `${root}[${at}]`);
      return elements.flatMap((element) => {
        const values = parts.map(([kind, expression]) => {
          const whole = expression.split('|').map((operand) => `${element}.${operand.trim()}`).join(' | ');
          return found(run(whole), resource).flatMap(([type, value]) => written(kind, type, value));
        });
        return values.reduce((before, some) => before.flatMap((one) => some.map((other) => `${one}$${other}`)), ['']);
      });
    });
}

/** The kind of a component: of its definition, unless that is of another element, as R4 has it once. */
function kindOf(rtype, root, component) {
  const named = byUrl.get(component.definition);
  const swapped = `${rtype} ${component.expression}` === 'DocumentReference code' || `${rtype} ${component.expression}` === 'DocumentReference target';
  if (!swapped) return named.type;
  return component.expression === 'code' ? 'token' : 'reference';
}

/** Cuts as the store does, between characters. */
function cut(text) {
  const bytes = Buffer.from(text);
  if (bytes.length <= TEXT_BYTES_MAX) return text;
  let end = TEXT_BYTES_MAX;
  while ((bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end).toString();
}

let resources = 0;
let values = 0;
const differences = [];
let different = 0;
async function* lines(paths) {
  for (const path of paths) yield* createInterface({ input: createReadStream(path), crlfDelay: Infinity });
}
for await (const line of lines(process.argv.slice(3))) {
  const { from, resource, values: extracted } = JSON.parse(line);
  const rtype = resource.resourceType;
  // Among what is meant to be refused are types that R4 does not have.
  if (!types.has(rtype)) continue;
  resources += 1;
  const known = parameters(rtype);
  for (const name of new Set([...known.keys(), ...Object.keys(extracted)])) {
    const expected = new Set((known.get(name)?.(resource) ?? []).map(cut));
    const got = new Set((extracted[name] ?? []).map(cut));
    values += expected.size;
    if (expected.size > 0) seen.add(`${rtype} ${name}`);
    const missing = [...expected].filter((value) => !got.has(value));
    const extra = [...got].filter((value) => !expected.has(value));
    if (missing.length + extra.length > 0) {
      different += 1;
      if (differences.length < SHOWN_MAX) differences.push({ from, rtype, name, missing, extra });
    }
  }
}

for (const difference of differences) console.log(JSON.stringify(difference));
const all = [...parametersOf].flatMap(([rtype, own]) => [...own.keys()].map((name) => `${rtype} ${name}`));
const without = all.filter((name) => !seen.has(name));
for (const name of without) console.log(`no resource has a value of ${name}`);
console.log(
  `oracle: ${resources} resources, ${all.length} parameters of ${parametersOf.size} types, ${values} values compared, ${different} differ`,
);
process.exitCode = different === 0 && without.length === 0 && values > 0 ? 0 : 1;
