// Resources of every R4 type that have something in every element, made from the definitions: one JSON text on each line.
//
// They obey no rule but the form of their elements: what matters is that each search parameter finds something, in every choice.
// Usage: node generate.js DEFINITIONS OUT

import { writeFileSync } from 'node:fs';
import { structures } from './definitions.js';

/** The deepest element, counted from the resource; R4's search parameters reach five. */
const DEPTH_MAX = 6;
/** How many forms of each type: as many as the widest choice that is searched has types. */
const FORMS = 11;
/** Items of a list: enough for every kind of related artifact and every system of contact points. */
const ITEMS = 3;

const types = structures(process.argv[2]);
const ARTIFACTS = ['composed-of', 'depends-on', 'derived-from', 'predecessor', 'successor', 'citation'];
const CONTACTS = ['phone', 'email', 'fax'];
/** Members whose values are conditions of search parameters. */
const CONDITIONS = { 'RelatedArtifact.type': ARTIFACTS, 'ContactPoint.system': CONTACTS };
const PLACES = ['2021-03', '2021-03-04', '2021', '2021-03-04T05:06:07+01:00', '2021-03-04T05:06:07.89Z'];

/** How often each element was filled. Each takes its values in turn, whatever others do. */
const counts = new Map();
const next = (path) => {
  const count = counts.get(path) ?? 0;
  counts.set(path, count + 1);
  return count;
};
const turn = (list, path) => list[next(path) % list.length];

const PRIMITIVES = {
  boolean: (path) => next(path) % 2 === 0,
  integer: (path) => (next(path) % 400) - 200,
  positiveInt: (path) => (next(path) % 400) + 1,
  unsignedInt: (path) => next(path) % 400,
  decimal: (path) => ((next(path) % 4000) - 2000) / 100,
  date: (path) => turn(PLACES.slice(0, 3), path),
  dateTime: (path) => turn(PLACES, path),
  instant: (path) => turn(PLACES.slice(3), path),
  uri: (path) => turn([`http://example.org/${path}`, `urn:oid:1.2.${counts.get(path)}`], path),
  url: (path) => `http://example.org/url/${next(path)}`,
  canonical: (path) => turn([`http://example.org/c/${counts.get(path)}`, 'http://example.org/c|1.0'], path),
  code: (path) => `code-${next(path) % 50}`,
  string: (path) => turn(['Ünïcode  words', 'plain', `text ${counts.get(path)}`], path),
  markdown: (path) => `*words* ${next(path)}`,
};

/** Every third in another form than the usual one. */
function reference(of, path) {
  const targets = (of.targetProfile ?? []).map((target) => target.split('/').pop()).filter((name) => name !== 'Resource');
  const count = next(path);
  const types = targets.length > 0 ? targets : ['Patient', 'Practitioner', 'Device'];
  const type = types[count % types.length];
  const id = `id-${count}`;
  const others = [
    { reference: `${type}/${id}/_history/2`, display: 'shown' },
    { reference: `http://example.org/fhir/${type}/${id}` },
    { reference: `urn:uuid:${id}`, type },
    { reference: '#inside' },
    { identifier: { system: 'urn:system', value: id }, type },
    { reference: `${type}?identifier=${id}` },
  ];
  return count % 3 === 2 ? others[((count - 2) / 3) % others.length] : { reference: `${type}/${id}` };
}

function value(type, of, path, form, depth) {
  if (type === 'Reference') return reference(of, path);
  if (type === 'Resource') return { resourceType: 'Basic', id: `inside-${next(path)}` };
  const primitive = PRIMITIVES[type];
  if (primitive) return primitive(path);
  const structure = types.get(type);
  if (!structure || structure.kind === 'primitive-type') return `text-${next(path)}`;
  return depth < DEPTH_MAX ? filled(structure, structure.name, form, depth) : undefined;
}

/** The elements directly under `path`, those of the bases first. */
function elements(structure, path) {
  const own = structure.differential.element.filter(
    (element) => element.path.startsWith(`${path}.`) && !element.path.slice(path.length + 1).includes('.'),
  );
  const base = types.get(structure.baseDefinition?.split('/').pop());
  return base && path === structure.name ? [...elements(base, base.name), ...own] : own;
}

function filled(structure, path, form, depth) {
  const object = {};
  for (const element of elements(structure, path)) {
    const name = element.path.slice(element.path.lastIndexOf('.') + 1);
    if (['id', 'extension', 'modifierExtension', 'contained', 'text', 'div'].includes(name) && depth < 2) continue;
    if (['extension', 'modifierExtension'].includes(name)) continue;
    if (element.contentReference) {
      // Such elements lie within each other without end: one item, and no deeper.
      const inside = depth < DEPTH_MAX - 1 ? filled(structure, element.contentReference.slice(1), form, DEPTH_MAX - 1) : {};
      if (Object.keys(inside).length > 0) object[name] = element.max === '*' ? [inside] : inside;
      continue;
    }
    const of = element.type[form % element.type.length];
    const member = name.endsWith('[x]') ? name.slice(0, -3) + of.code[0].toUpperCase() + of.code.slice(1) : name;
    const one = () => {
      const conditions = CONDITIONS[element.path];
      if (conditions) return turn(conditions, element.path);
      return ['BackboneElement', 'Element'].includes(of.code)
        ? filled(structure, element.path, form, depth + 1)
        : value(of.code, of, element.path, form, depth + 1);
    };
    const items = element.max === '*' ? Array.from({ length: name === 'relatedArtifact' ? 6 : ITEMS }, one) : [one()];
    const there = items.filter((item) => item !== undefined);
    if (there.length > 0) object[member] = element.max === '*' ? there : there[0];
  }
  return object;
}

const lines = [];
for (const structure of types.values()) {
  if (structure.kind !== 'resource' || structure.abstract) continue;
  for (let form = 0; form < FORMS; form += 1) {
    const resource = { resourceType: structure.name, ...filled(structure, structure.name, form, 1) };
    lines.push(`${JSON.stringify(resource)}\n`);
  }
}
writeFileSync(process.argv[3], lines.join(''));
console.log(`${lines.length} resources generated`);
