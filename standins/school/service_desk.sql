-- The service desk of the school: its machines, what is wrong with them, and what was said about it.

CREATE TYPE asset_kind AS ENUM ('laptop', 'desktop', 'printer', 'projector', 'router', 'server');
CREATE TYPE ticket_status AS ENUM ('new', 'open', 'waiting', 'resolved', 'closed');

CREATE SEQUENCE asset_tags;

CREATE TABLE assets (
  id uuid PRIMARY KEY,
  tag text NOT NULL UNIQUE DEFAULT 'AST-' || lpad(nextval('asset_tags')::text, 5, '0'),
  kind asset_kind NOT NULL,
  model text NOT NULL,
  room text,
  address inet,
  mac macaddr,
  specs jsonb NOT NULL DEFAULT '{}',
  labels text[],
  price numeric(12,2) CHECK (price >= 0),
  bought_on date NOT NULL,
  warranty interval,
  photo bytea,
  retired bool NOT NULL DEFAULT false,
  updated_at timestamptz NOT NULL
);
ALTER SEQUENCE asset_tags OWNED BY assets.tag;
CREATE INDEX assets_updated_at ON assets (updated_at);
CREATE INDEX assets_address ON assets USING gist (address inet_ops) WHERE NOT retired;

CREATE TABLE tickets (
  id uuid PRIMARY KEY,
  number int GENERATED ALWAYS AS IDENTITY UNIQUE,
  asset_id uuid REFERENCES assets,
  requester text NOT NULL,
  subject text NOT NULL,
  body text,
  status ticket_status NOT NULL,
  priority smallint NOT NULL CHECK (priority BETWEEN 1 AND 4),
  urgent bool GENERATED ALWAYS AS (priority = 1) STORED,
  tags text[] NOT NULL DEFAULT '{}',
  history int[],
  custom jsonb,
  opened_at timestamptz NOT NULL,
  due_on date,
  closed_at timestamptz CHECK (closed_at >= opened_at),
  time_spent interval NOT NULL DEFAULT '0',
  updated_at timestamptz NOT NULL,
  CHECK ((closed_at IS NOT NULL) = (status IN ('resolved', 'closed')))
);
CREATE INDEX tickets_updated_at ON tickets (updated_at);
CREATE INDEX tickets_open ON tickets (priority, opened_at) WHERE closed_at IS NULL;
CREATE INDEX tickets_tags ON tickets USING gin (tags);

CREATE TABLE service_targets (
  priority smallint PRIMARY KEY CHECK (priority BETWEEN 1 AND 4),
  first_answer interval NOT NULL,
  resolution interval NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE comments (
  id uuid PRIMARY KEY,
  ticket_id uuid NOT NULL REFERENCES tickets ON DELETE CASCADE,
  position int NOT NULL CHECK (position > 0),
  author text,
  body text NOT NULL,
  length int GENERATED ALWAYS AS (char_length(body)) STORED,
  internal bool NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  UNIQUE (ticket_id, position)
);
CREATE INDEX comments_updated_at ON comments (updated_at);

CREATE VIEW open_tickets AS
  SELECT t.number, t.subject, t.priority, t.requester, a.tag, a.room
  FROM tickets t LEFT JOIN assets a ON a.id = t.asset_id
  WHERE t.closed_at IS NULL;

CREATE VIEW closing_times AS
  SELECT priority, count(*) AS tickets, avg(closed_at - opened_at) AS average
  FROM tickets WHERE closed_at IS NOT NULL GROUP BY priority;

COMMENT ON COLUMN tickets.requester IS 'Staff number in the hr database, as typed.';
COMMENT ON COLUMN tickets.due_on IS '9999-12-31 for what may wait for ever.';
COMMENT ON COLUMN tickets.history IS 'Priorities before the present one, the oldest first.';
