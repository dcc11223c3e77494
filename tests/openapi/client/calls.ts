// Calls each operation by the client that was generated from the document: with a key, without one,
// and with a key that does not have scopes. Prints what is not as the document says.

import { client } from './generated/client.gen.js';
import type { Auth } from './generated/client/index.js';
import * as sdk from './generated/sdk.gen.js';
import type { ListOrdersErrors } from './generated/types.gen.js';
import document from './openapi.json' with { type: 'json' };

declare const process: { env: Record<string, string>; exitCode: number };

type Result = { response?: Response; error?: unknown };
type Call = (key?: string) => Promise<Result>;

/** The statuses of the responses to a key, to no key, and to a key that does not have scopes. */
type Expected = { key?: string; accepted: number; missing: number; bare?: number };

type Operation = { operationId: string; responses: Record<string, DocumentedResponse> };
type DocumentedResponse = { $ref?: string; content?: object; headers?: object };

const keys: Record<string, string> = JSON.parse(process.env.API_KEYS);

const plain: Expected = { accepted: 200, missing: 401 };
const scoped: Expected = { ...plain, bare: 403 };
const order = { item: 'tea', quantity: 2 };
// The client writes a key into the query that it is given, so each call has one of its own.
const page = () => ({ page: '1' });
// The document has the key as a member of these bodies, and not in `security`.
const reading = (api_key?: string) => ({ api_key: api_key ?? '', celsius: 21 });

const operations: Record<string, [Call, Expected]> = {
  whoami: [() => sdk.whoami(), plain],
  list_orders: [() => sdk.listOrders(), scoped],
  place_order: [() => sdk.placeOrder({ body: order }), { ...scoped, accepted: 201 }],
  report: [() => sdk.report(), scoped],
  search: [() => sdk.search(), scoped],
  project: [() => sdk.project({ path: { project_id: 7 } }), scoped],
  in_a_header: [() => sdk.inAHeader(), plain],
  in_a_scheme: [() => sdk.inAScheme(), plain],
  as_a_user_name: [() => sdk.asAUserName(), plain],
  in_the_query: [() => sdk.inTheQuery({ query: page() }), plain],
  in_a_cookie: [() => sdk.inACookie(), plain],
  in_a_websocket: [() => sdk.inAWebsocket(), plain],
  in_json: [(key) => sdk.inJson({ body: reading(key) }), plain],
  in_a_form: [(key) => sdk.inAForm({ body: reading(key) }), plain],
  anywhere: [() => sdk.anywhere({ query: page() }), plain],
  with_or_without: [() => sdk.withOrWithout(), { ...plain, missing: 200 }],
  fresh: [() => sdk.fresh(), plain],
  over_https: [() => sdk.overHttps(), { accepted: 403, missing: 401 }],
  once_a_day: [() => sdk.onceADay(), plain],
  live: [() => sdk.live(), { ...plain, key: 'live', bare: 401 }],
  of_a_family: [() => sdk.ofAFamily(), { ...plain, key: 'adm', bare: 401 }],
  posted: [() => sdk.posted(), plain],
  of_a_second_manager: [() => sdk.ofASecondManager(), plain],
  own_security: [() => sdk.ownSecurity(), plain],
  own_answer: [() => sdk.ownAnswer(), plain],
  two_scopes: [() => sdk.twoScopes(), scoped],
  two_keys: [() => sdk.twoKeys(), scoped],
  users: [() => sdk.users(), scoped],
  below_scope: [() => sdk.belowScope(), scoped],
  below_header: [() => sdk.belowHeader(), plain],
  below_optional: [() => sdk.belowOptional(), { ...plain, missing: 200 }],
  below_two: [() => sdk.belowTwo(), scoped],
  both_sides: [() => sdk.bothSides(), scoped],
  open: [() => sdk.open(), { accepted: 200, missing: 200 }],
};

/** The members of a problem have types, since the document has its schema. */
export const title = (problem: ListOrdersErrors[401]): string => problem.title;

let faults = 0;

function fault(text: string): void {
  faults += 1;
  console.log(text);
}

function documentedOperations(): Operation[] {
  return Object.values(document.paths).flatMap((path) => Object.values(path)) as Operation[];
}

function resolved(response: DocumentedResponse): DocumentedResponse {
  const components = document.components as { responses?: Record<string, DocumentedResponse> };
  const name = response.$ref?.split('/').pop();
  return name === undefined ? response : (components.responses?.[name] ?? {});
}

/** Returns the name of what carries the key. */
const place = (scheme: Auth): string => (scheme.name ?? 'Authorization').toLowerCase();

/** Returns what a client writes there; a description says what is beside the key. */
function credential(scheme: Auth, key: string): string {
  if (scheme.scheme === 'basic') return `${key}:`;
  if (scheme.type === 'apiKey' && place(scheme) === 'authorization') return `ApiKey ${key}`;
  if (place(scheme) === 'sec-websocket-protocol') return `bearer, ${key}`;
  return key;
}

/** Has the client send this key wherever the document says, or only there. */
function authenticate(key?: string, only?: string): void {
  const auth = (scheme: Auth) => {
    const skipped = only !== undefined && only !== place(scheme);
    return key === undefined || skipped ? undefined : credential(scheme, key);
  };
  client.setConfig({ baseUrl: process.env.API_URL, auth });
}

async function check(id: string, what: string, call: Promise<Result>, status: number) {
  const { response, error } = await call;
  const name = `${id}, ${what}`;
  if (response === undefined) return fault(`${name}: ${error}`);
  if (response.status !== status) fault(`${name}: ${response.status} instead of ${status}`);
  const operation = documentedOperations().find((one) => one.operationId === id);
  const responses = operation?.responses[response.status];
  if (responses === undefined) return fault(`${name}: ${response.status} is not documented`);
  const documented = resolved(responses);
  const types = Object.keys(documented.content ?? {});
  const type = response.headers.get('content-type')?.split(';')[0] ?? '';
  if (types.length > 0 && !types.includes(type)) fault(`${name}: ${type} is not documented`);
  const headers = Object.keys(documented.headers ?? {}).map((header) => header.toLowerCase());
  for (const [of, header] of [[401, 'www-authenticate'], [429, 'retry-after'], [503, 'retry-after']]) {
    if (of !== response.status || id === 'own_answer') continue;
    if (!response.headers.has(`${header}`)) fault(`${name}: there is no ${header}`);
    if (!headers.includes(`${header}`)) fault(`${name}: ${header} is not documented`);
  }
  if (type === 'application/problem+json') {
    const problem = error as { type: string; status: number };
    const own = problem.type.startsWith('urn:problem-type:api-key:');
    if (!own || problem.status !== status) fault(`${name}: ${JSON.stringify(problem)}`);
  }
}

async function checkAll(): Promise<void> {
  for (const [id, [call, expected]] of Object.entries(operations)) {
    const key = keys[expected.key ?? 'full'];
    authenticate();
    await check(id, 'without a key', call(), expected.missing);
    if (expected.bare !== undefined) {
      authenticate(keys.bare);
      await check(id, 'with a key without scopes', call(keys.bare), expected.bare);
    }
    // A request with keys in two of the alternatives is rejected.
    for (const only of id === 'anywhere' ? ['authorization', 'x-api-key', 'api_key'] : [undefined]) {
      authenticate(key, only);
      await check(id, `with a key in ${only ?? 'its place'}`, call(key), expected.accepted);
    }
  }
  authenticate(keys.full);
  await check('once_a_day', 'for the second time', sdk.onceADay(), 429);
  await check('anywhere', 'with three keys', sdk.anywhere({ query: page() }), 400);
}

/** Checks the responses while the store is not available. */
async function checkUnavailable(): Promise<void> {
  authenticate(keys.full);
  await check('list_orders', 'without the store', sdk.listOrders(), 503);
  await check('below_scope', 'without the store', sdk.belowScope(), 503);
}

const documented = documentedOperations().map((operation) => operation.operationId);
for (const id of documented) {
  if (!(id in operations)) fault(`${id} is not called`);
}
await (process.env.STORE === 'down' ? checkUnavailable() : checkAll());
console.log(`${documented.length} operations, ${faults} faults`);
process.exitCode = faults === 0 ? 0 : 1;
