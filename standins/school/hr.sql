-- The human resources database of the school: who works there, who is away, who is paid what.

CREATE TYPE post AS ENUM (
  'head', 'teacher', 'administrator', 'technician', 'support', 'national_service'
);
CREATE TYPE leave_kind AS ENUM ('annual', 'sick', 'maternity', 'paternity', 'study', 'funeral');

CREATE SEQUENCE staff_numbers;

CREATE TABLE departments (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code text NOT NULL UNIQUE CHECK (code ~ '^[A-Z]{2,5}$'),
  name text NOT NULL,
  local_name text,
  parent_id smallint REFERENCES departments,
  opens time NOT NULL,
  closes time NOT NULL,
  budget numeric(12,2) NOT NULL CHECK (budget >= 0),
  updated_at timestamptz NOT NULL,
  CHECK (closes > opens)
);

CREATE TABLE grades (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code text NOT NULL UNIQUE,
  name text NOT NULL,
  lowest_salary numeric(12,2) NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE employees (
  id uuid PRIMARY KEY,
  staff_number text NOT NULL UNIQUE
    DEFAULT 'ANS-' || lpad(nextval('staff_numbers')::text, 5, '0'),
  given_name text NOT NULL,
  family_name text NOT NULL,
  full_name text GENERATED ALWAYS AS (given_name || ' ' || family_name) STORED,
  native_name text,
  email text,
  phone text,
  birth_date date NOT NULL,
  hired_on date NOT NULL,
  left_on date CHECK (left_on >= hired_on),
  post post NOT NULL,
  department_id smallint NOT NULL REFERENCES departments,
  grade_id smallint NOT NULL REFERENCES grades,
  manager_id uuid REFERENCES employees,
  languages text[] NOT NULL DEFAULT '{}',
  qualifications jsonb NOT NULL,
  photo bytea,
  weekly_hours interval NOT NULL CHECK (weekly_hours <= interval '60 hours'),
  monthly_salary numeric(12,2) NOT NULL CHECK (monthly_salary >= 0),
  active bool NOT NULL,
  updated_at timestamptz NOT NULL
);
ALTER SEQUENCE staff_numbers OWNED BY employees.staff_number;
CREATE INDEX employees_updated_at ON employees (updated_at);
CREATE INDEX employees_email ON employees (lower(trim(email)));
CREATE INDEX employees_department ON employees (department_id) WHERE active;

CREATE TABLE leave (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  employee_id uuid NOT NULL REFERENCES employees ON DELETE CASCADE,
  kind leave_kind NOT NULL,
  starts_on date NOT NULL,
  ends_on date NOT NULL,
  days int GENERATED ALWAYS AS (ends_on - starts_on + 1) STORED,
  reason text,
  approved bool,
  approved_by uuid REFERENCES employees,
  updated_at timestamptz NOT NULL,
  CHECK (ends_on >= starts_on)
);
CREATE INDEX leave_updated_at ON leave (updated_at);
CREATE INDEX leave_employee ON leave (employee_id, starts_on);

CREATE TABLE leave_entitlements (
  employee_id uuid REFERENCES employees,
  year smallint,
  days numeric(4,1) NOT NULL CHECK (days >= 0),
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (employee_id, year)
);
CREATE INDEX leave_entitlements_updated_at ON leave_entitlements (updated_at);

CREATE TABLE payroll (
  employee_id uuid NOT NULL REFERENCES employees,
  month date NOT NULL CHECK (extract(day FROM month) = 1),
  gross numeric(12,2) NOT NULL,
  pension numeric(12,2) NOT NULL,
  tax numeric(12,2) NOT NULL,
  net numeric(12,2) GENERATED ALWAYS AS (gross - pension - tax) STORED,
  allowances jsonb,
  paid_at timestamptz,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (employee_id, month)
);
CREATE INDEX payroll_updated_at ON payroll (updated_at);

CREATE VIEW staff_directory AS
  SELECT e.staff_number, e.full_name, nullif(lower(trim(e.email)), '') AS email, e.post,
         d.name AS department
  FROM employees e JOIN departments d ON d.id = e.department_id
  WHERE e.active;

CREATE VIEW payroll_by_month AS
  SELECT month, count(*) AS employees, sum(gross) AS gross, sum(net) AS net
  FROM payroll GROUP BY month;

COMMENT ON TABLE leave IS 'Requests for leave; approved is NULL until the head has decided.';
COMMENT ON TABLE leave_entitlements IS 'Working days of annual leave, by calendar year.';
COMMENT ON COLUMN grades.lowest_salary IS 'What a month pays at least, in cedis.';
COMMENT ON COLUMN payroll.gross IS 'December brings a thirteenth month.';
COMMENT ON COLUMN employees.left_on IS 'NULL or 9999-12-31 for whoever has not left.';
COMMENT ON COLUMN employees.birth_date IS '1900-01-01 where nobody knows.';
