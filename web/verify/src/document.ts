// The JSON document of a report: integers of 64 bits are written in full, which `JSON.stringify` cannot.

type Json = null | boolean | number | bigint | string | readonly Json[] | { readonly [name: string]: Json };

/** One JSON document, indented by two spaces. */
export function document(value: Json): string {
  return written(value, "");
}

function written(value: Json, indent: string): string {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = `${indent}  `;
  const isArray = isList(value);
  const items = isArray
    ? value.map((item) => written(item, inner))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${written(item, inner)}`);
  const [open, close] = isArray ? ["[", "]"] : ["{", "}"];
  if (items.length === 0) return open + close;
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${indent}${close}`;
}

/** `Array.isArray`, which does not know read-only arrays. */
function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}
