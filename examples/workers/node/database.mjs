// Sessions: what all parts of the worker say to the database by.
import pg from 'pg';

const config = {
    connectionString: process.env.DATABASE_URL,
    application_name: 'eram node',
    keepAlive: true,
    connectionTimeoutMillis: 10_000,
    query_timeout: 60_000, // a call without an answer for so long has gone astray
};

// For the transactions of handlers, whose statements may take as long as they like.
export const pool = new pg.Pool({ ...config, query_timeout: undefined });
pool.on('error', () => {}); // an idle connection was lost: the pool opens another one

export async function connect() {
    const client = new pg.Client(config);
    client.on('error', () => {}); // the next query fails, which is soon enough
    await client.connect();
    const [{ pid }] = await query(client, 'select pg_backend_pid() as pid');
    client.isDirect = pid === client.processID; // a pooler tells its clients another one
    return client;
}

export async function query(client, text, ...values) {
    return (await client.query(text, values)).rows;
}

// Whether the server refuses what was said. Everything else is waited out on a new connection: one
// that was lost, and a server that shuts down, is full, or is a standby.
export function isRefusal(error) {
    return error.severity === 'ERROR' && !/^(08|25006|40|53|55P03|57)/.test(error.code);
}
