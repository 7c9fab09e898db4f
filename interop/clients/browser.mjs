// A person's browser, for the checks in which a person has a part.

/** A browser without scripts: cookies by origin, redirects one by one, forms as the page has them. */
export class Browser {
  #jars = new Map();

  async open(address, options = {}) {
    let next = new URL(address);
    for (let hops = 0; hops < 20; hops += 1) {
      const jar = this.#jars.get(next.origin) ?? new Map();
      this.#jars.set(next.origin, jar);
      const fitting = [...jar].filter(([, cookie]) => next.pathname.startsWith(cookie.path));
      const cookie = fitting.map(([name, { value }]) => `${name}=${value}`).join('; ');
      const response = await fetch(next, { ...options, redirect: 'manual', headers: { ...options.headers, ...(cookie && { cookie }) } });
      for (const line of response.headers.getSetCookie()) {
        const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
        const path = line.match(/;\s*path=([^;]+)/i)?.[1] ?? '/';
        const over = /max-age=0\b/i.test(line) || /expires=Thu, 01 Jan 1970/i.test(line);
        if (over || value === '') jar.delete(name);
        else jar.set(name, { value, path });
      }
      const location = response.headers.get('location');
      if (!location) return { status: response.status, address: next, headers: response.headers, text: await response.text() };
      next = new URL(location, next);
      options = {};
    }
    throw new Error('redirected without end');
  }

  /** Sends the form of a page, with its hidden fields and these. */
  submit(page, fields) {
    const form = page.text.match(/<main>[\s\S]*?(<form[\s\S]*?<\/form>)/)?.[1] ?? page.text.match(/<form[\s\S]*?<\/form>/)[0];
    const hidden = [...form.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name, plain(value)]);
    const action = new URL(form.match(/action="([^"]+)"/)[1], page.address);
    // As browsers do (Fetch, "append a request `Origin` header"): a page that hides where it is from is from nowhere.
    const policy = page.headers.get('referrer-policy') ?? '';
    const origin = policy === 'no-referrer' || action.origin !== page.address.origin ? 'null' : action.origin;
    return this.open(action, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', origin },
      body: new URLSearchParams([...hidden, ...Object.entries(fields)]).toString(),
    });
  }

  /** Opens a page of ours and logs in on the way, on the login service's own pages. */
  async logIn(address, name) {
    let page = await this.open(address);
    page = await this.submit(page, { login: name, password: 'any' });
    return this.submit(page, {});
  }
}

/** The text that an attribute's value stands for. */
function plain(value) {
  const entities = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
  return value.replaceAll(/&(amp|lt|gt|quot|#39);/g, (_, name) => entities[name]);
}
