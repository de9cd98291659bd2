// What the server is asked. Every address is relative to the base path that the page was served at.

export class ApiError extends Error {
  constructor(message, { status = 0, hint = null, code = null, answer = {} } = {}) {
    super(message);
    this.status = status;
    this.hint = hint;
    this.code = code;
    this.answer = answer; // what was done before it went wrong, for instance
  }

  /* Whether it is likely to pass by itself: nobody answered, or the database did not. */
  get isOutage() {
    if (this.code) return this.code === "outage";
    return this.status === 0 || this.status === 502 || this.status === 503;
  }
}

let session = null;

export function address(path, parameters = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

export async function loadSession() {
  session = await get("api/session");
  return session;
}

export async function get(path, parameters, signal) {
  return ask(address(path, parameters), { signal });
}

/* Carry out an action. A server that was started anew knows no token of the old one: ask once
   more for the session, and try again. */
export async function act(name, body) {
  try {
    return await post(name, body);
  } catch (error) {
    if (error.code !== "csrf") throw error;
    await loadSession();
    return post(name, body);
  }
}

function post(name, body) {
  return send(`api/actions/${name}`, body);
}

function send(path, body) {
  return ask(address(path), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Eram-Csrf": session?.csrf ?? "" },
    body: JSON.stringify(body),
  });
}

/* Many jobs are acted on in slices: the server says when its time was up, and where to go on. */
export async function actOnMany(name, body) {
  let count = 0;
  let next = null;
  do {
    let answer;
    try {
      answer = await act(name, next === null ? body : { ...body, before: next });
    } catch (error) {
      error.count = count + (error.answer?.count ?? 0);
      throw error;
    }
    count += answer.count;
    next = answer.next ?? null;
  } while (next !== null);
  return { count };
}

export async function logOut() {
  await send("api/logout", {});
  location.assign(address("login"));
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server does not answer", { hint: "It is tried again by itself." });
  }
  if (response.status === 401) {
    const here = location.pathname + location.search;
    location.assign(address("login", { next: here }));
  }
  const answer = await read(response);
  // What was cut off on its way, or is from somebody else, is no answer either.
  if (!response.ok || answer.isUnreadable) {
    throw new ApiError(answer.error ?? `the server says ${response.status}`, {
      status: response.status,
      hint: answer.hint,
      code: answer.code,
      answer,
    });
  }
  return answer;
}

async function read(response) {
  try {
    return await response.json();
  } catch {
    const said = `${response.status} ${response.statusText}`.trim();
    return { isUnreadable: true, error: `the answer of the server cannot be read: ${said}` };
  }
}
