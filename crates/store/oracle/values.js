// The values of an element as they are written for the comparison, from what FHIR says about each kind of search parameter.
//
// Written so, values are equal that a search could not tell apart:
// - token: `system|code`; nothing for a concept or coding without a code. Contact points have no system, booleans and codes neither.
// - string: the text itself; of names and addresses each of their parts, list items apart.
// - date: the first millisecond and the first one after it, in UTC; `-` where a period is open. Nothing for what is no date.
// - reference: `Type/id` without its version for a relative one, else the whole address without its version. Nothing for references
//   into the resource itself, for conditions that nobody has resolved, and for logical references, which have a modifier of their own.
// - number, quantity: the least and the greatest number as the bits of doubles, then system, code and unit; a comparator makes it all
//   numbers below or above, and a unit that is the code is not written twice. Money has the system of currencies.
// - uri: the address itself.
// Values of an element's type that the kind has none for (a text where a date is looked for, SampledData, Attachment) are nothing; so are
// texts of more than 512 bytes compared by their beginning alone, as the store cuts them.

const DAY = 86_400_000;
const CONTACTS = new Set(['phone', 'fax', 'email', 'pager', 'url', 'sms', 'other']);
const isObject = (value) => typeof value === 'object' && value !== null;
const isText = (value) => typeof value === 'string';

/** The types that have values of a kind. Source: FHIR R4 `search.html`, the table of types and kinds. */
const TYPES = {
  token: ['code', 'Coding', 'CodeableConcept', 'Identifier', 'ContactPoint', 'boolean', 'string', 'uri', 'id'],
  string: ['string', 'markdown', 'HumanName', 'Address'],
  date: ['date', 'dateTime', 'instant', 'Period', 'Timing'],
  reference: ['Reference', 'canonical', 'uri'],
  number: ['integer', 'positiveInt', 'unsignedInt', 'decimal', 'Range'],
  quantity: ['Quantity', 'Age', 'Count', 'Distance', 'Duration', 'Money', 'Range'],
  uri: ['uri', 'url', 'canonical', 'oid', 'uuid'],
};

/** @returns {string[]} */
export function written(kind, type, value) {
  if (value === null || value === undefined || !TYPES[kind].includes(type)) return [];
  return KINDS[kind](value, type);
}

const KINDS = { token, string: words, date, reference, number: quantity, quantity, uri };

function token(value) {
  if (isText(value)) return value === '' ? [] : [`|${value}`];
  if (typeof value === 'boolean') return [`|${value}`];
  if (!isObject(value)) return [];
  if ('coding' in value) return value.coding.flatMap((coding) => token({ ...coding, isCoding: true }));
  if ('isCoding' in value || 'code' in value) return value.code ? [`${value.system ?? ''}|${value.code}`] : [];
  if (!isText(value.value) || value.value === '') return [];
  return [`${CONTACTS.has(value.system) ? '' : (value.system ?? '')}|${value.value}`];
}

const PARTS = {
  HumanName: ['text', 'family', 'given', 'prefix', 'suffix'],
  Address: ['text', 'line', 'city', 'district', 'state', 'postalCode', 'country'],
};

function words(value, type) {
  if (isText(value)) return value === '' ? [] : [value];
  return (PARTS[type] ?? []).flatMap((part) => value[part] ?? []).filter((text) => isText(text) && text !== '');
}

const DATE = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?$/;

/** The first millisecond of a date and the first one after it. */
function span(text) {
  const parts = DATE.exec(text);
  if (!parts) return undefined;
  const [, year, month, day, hour, minute, second, fraction, zone] = parts;
  const at = (y, m, d) => {
    const date = new Date(0);
    date.setUTCFullYear(y, m, d);
    return date.getTime();
  };
  const y = Number(year);
  if (y === 0) return undefined;
  if (!month) return [at(y, 0, 1), at(y + 1, 0, 1)];
  const m = Number(month) - 1;
  if (m > 11 || m < 0) return undefined;
  if (!day) return [at(y, m, 1), at(y, m + 1, 1)];
  const start = at(y, m, Number(day));
  if (new Date(start).getUTCDate() !== Number(day)) return undefined;
  if (!hour) return [start, start + DAY];
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second ?? 0) > 60) return undefined;
  const digits = fraction ? fraction.slice(1, 4) : '';
  const length = !second ? 60_000 : !fraction ? 1_000 : 10 ** (3 - digits.length);
  const shift = !zone || zone === 'Z' ? 0 : (zone[0] === '-' ? 1 : -1) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4)));
  const ms = digits ? Number(digits.padEnd(3, '0')) : 0;
  const first = start + ((Number(hour) * 60 + Number(minute) + shift) * 60 + Number(second ?? 0)) * 1_000 + ms;
  return [first, first + length];
}

function date(value, type) {
  const shown = (lo, hi) => [`${lo}..${hi}`];
  if (type === 'Period') {
    const [start, end] = [value.start, value.end].map((text) => (text === undefined ? undefined : span(text)));
    if ((value.start !== undefined && !start) || (value.end !== undefined && !end) || !(start || end)) return [];
    return shown(start?.[0] ?? '-', end?.[1] ?? '-');
  }
  if (type === 'Timing') {
    if (value.repeat?.boundsPeriod) return date(value.repeat.boundsPeriod, 'Period');
    const spans = (value.event ?? []).map(span).filter(Boolean);
    return spans.length === 0 ? [] : shown(Math.min(...spans.map(([lo]) => lo)), Math.max(...spans.map(([, hi]) => hi)));
  }
  const found = span(value);
  return found ? shown(...found) : [];
}

function reference(value) {
  const text = isText(value) ? value : value.reference;
  if (!isText(text) || text === '' || text.startsWith('#') || text.includes('?')) return [];
  return [text.split('/_history/')[0]];
}

/** The bits of a double, so that equal numbers are equal texts. */
const bits = (number) => new BigUint64Array(new Float64Array([number + 0]).buffer)[0];
const shownNumber = (number) => bits(number).toString(16).padStart(16, '0');
/** The double next to a number that is not zero. */
const beside = (number, step) => {
  const away = BigInt(number > 0 ? step : -step);
  return new Float64Array(new BigUint64Array([bits(number) + away]).buffer)[0];
};
const below = (number) => (number === 0 ? -Number.MIN_VALUE : beside(number, -1));
const above = (number) => (number === 0 ? Number.MIN_VALUE : beside(number, 1));
const isNumber = (value) => typeof value === 'number';

function between(lo, hi, unit) {
  return [`${shownNumber(lo)}..${shownNumber(hi)}|${unit}`];
}

function quantity(value, type) {
  if (isNumber(value)) return between(value, value, '||');
  if (!isObject(value)) return [];
  const unit = (of) => {
    if (of.currency !== undefined) return `urn:iso:std:iso:4217|${of.currency}|`;
    const [system, code, words] = [of.system ?? '', of.code ?? '', of.unit ?? ''];
    return `${system}|${code}|${words === code ? '' : words}`;
  };
  if (type === 'Range') {
    const [low, high] = [value.low?.value, value.high?.value];
    if (!isNumber(low) && !isNumber(high)) return [];
    return between(isNumber(low) ? low : -Infinity, isNumber(high) ? high : Infinity, unit(value.low ?? value.high));
  }
  const exact = value.value;
  if (!isNumber(exact)) return [];
  const ends = {
    '<': [-Infinity, below(exact)],
    '<=': [-Infinity, exact],
    '>=': [exact, Infinity],
    '>': [above(exact), Infinity],
  };
  const [lo, hi] = ends[value.comparator] ?? [exact, exact];
  return between(lo, hi, unit(value));
}

function uri(value) {
  return isText(value) ? [value] : [];
}
