// Lints OpenAPI and AsyncAPI documents with Redocly's rules; prints each problem on a line, and nothing else.
//
//   cd clients/typescript && node ../../tools/lint-api-documents.mjs <document>...

import { createRequire } from "node:module";

const { createConfig, lint } = createRequire(`${process.cwd()}/`)("@redocly/openapi-core");
const config = await createConfig({
  extends: ["recommended-strict"],
  rules: {
    "info-contact": "error",
    "operation-description": "error",
    "operation-singular-tag": "error",
    "operation-tag-defined": "error",
    "parameter-description": "off", // a limit and a cursor say it by their names
    "tag-description": "error",
  },
});
for (const ref of process.argv.slice(2)) {
  for (const { ruleId, message, location } of await lint({ ref, config })) {
    console.log(`${ruleId}: ${message} (${location[0]?.pointer ?? ref})`);
  }
}
