// The published definitions of R4, from the folder where `cargo xtask definitions` unpacked them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const resources = (folder, file) =>
  JSON.parse(readFileSync(join(folder, file), 'utf8')).entry.map((entry) => entry.resource);

export function searchParameters(folder) {
  return resources(folder, 'search-parameters.json');
}

/** StructureDefinitions of R4's types by name. */
export function structures(folder) {
  const all = [...resources(folder, 'profiles-types.json'), ...resources(folder, 'profiles-resources.json')];
  const types = all.filter((of) => of.resourceType === 'StructureDefinition' && of.fhirVersion === '4.0.1');
  return new Map(types.filter((of) => of.kind !== 'logical').map((of) => [of.name, of]));
}
