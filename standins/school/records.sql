-- The academic records of the school: who studies what, and how it went.

CREATE TYPE house AS ENUM ('Aggrey', 'Guggisberg', 'Yaa Asantewaa', 'Ephraim Amu');
CREATE TYPE course_kind AS ENUM ('core', 'elective');
CREATE TYPE enrolment_status AS ENUM ('enrolled', 'completed', 'withdrawn');
CREATE TYPE exam_kind AS ENUM ('class_test', 'mid_year', 'end_of_year');
CREATE TYPE grade AS ENUM ('A1', 'B2', 'B3', 'C4', 'C5', 'C6', 'D7', 'E8', 'F9');
CREATE TYPE sex AS ENUM ('female', 'male');

CREATE SEQUENCE index_numbers;
CREATE SEQUENCE script_numbers AS bigint START WITH 100001;

CREATE TABLE programmes (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code text NOT NULL UNIQUE,
  name text NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE students (
  id uuid PRIMARY KEY,
  index_number text NOT NULL UNIQUE
    DEFAULT lpad(nextval('index_numbers')::text, 7, '0'),
  given_name text NOT NULL,
  family_name text NOT NULL,
  full_name text GENERATED ALWAYS AS (given_name || ' ' || family_name) STORED,
  native_name text,
  email text,
  birth_date date NOT NULL,
  sex sex,
  region text,
  programme_id smallint NOT NULL REFERENCES programmes,
  house house NOT NULL,
  form smallint NOT NULL CHECK (form BETWEEN 1 AND 3),
  boarder bool NOT NULL,
  languages text[],
  guardian jsonb,
  photo bytea,
  admitted_on date NOT NULL,
  card_expires_on date,
  fees_owed numeric(12,2) NOT NULL DEFAULT 0,
  updated_at timestamptz NOT NULL
);
ALTER SEQUENCE index_numbers OWNED BY students.index_number;
CREATE INDEX students_updated_at ON students (updated_at);
CREATE INDEX students_guardian ON students USING gin (guardian);

CREATE TABLE courses (
  id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code text NOT NULL UNIQUE,
  title text NOT NULL,
  local_title text,
  kind course_kind NOT NULL,
  credits smallint NOT NULL CHECK (credits BETWEEN 1 AND 6),
  weekdays int[] NOT NULL CHECK (weekdays <@ '{1,2,3,4,5}'),
  starts_at time NOT NULL,
  lesson interval NOT NULL,
  syllabus jsonb NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE enrolments (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  student_id uuid NOT NULL REFERENCES students,
  course_id smallint NOT NULL REFERENCES courses,
  academic_year smallint NOT NULL CHECK (academic_year BETWEEN 2000 AND 2100),
  status enrolment_status NOT NULL,
  enrolled_on date NOT NULL,
  updated_at timestamptz NOT NULL,
  UNIQUE (student_id, course_id, academic_year)
);
CREATE INDEX enrolments_updated_at ON enrolments (updated_at);
CREATE INDEX enrolments_course ON enrolments (course_id, academic_year);

CREATE TABLE exams (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  course_id smallint NOT NULL REFERENCES courses,
  academic_year smallint NOT NULL,
  kind exam_kind NOT NULL,
  held_at timestamptz NOT NULL,
  allowed interval NOT NULL CHECK (allowed > interval '0'),
  rooms text[] NOT NULL,
  question_marks int[] NOT NULL,
  examiner text,
  difficulty double precision,
  updated_at timestamptz NOT NULL,
  UNIQUE (course_id, academic_year, kind),
  UNIQUE (id, academic_year)
);

CREATE TABLE results (
  academic_year smallint NOT NULL,
  exam_id int NOT NULL,
  student_id uuid NOT NULL REFERENCES students,
  script_number bigint NOT NULL DEFAULT nextval('script_numbers'),
  score numeric(5,2) CHECK (score BETWEEN 0 AND 100),
  grade grade GENERATED ALWAYS AS (
    CASE WHEN score >= 80 THEN 'A1'::grade WHEN score >= 70 THEN 'B2' WHEN score >= 65 THEN 'B3'
         WHEN score >= 60 THEN 'C4' WHEN score >= 55 THEN 'C5' WHEN score >= 50 THEN 'C6'
         WHEN score >= 45 THEN 'D7' WHEN score >= 40 THEN 'E8' WHEN score >= 0 THEN 'F9' END
  ) STORED,
  marks int[],
  remark text,
  marked_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (academic_year, exam_id, student_id),
  FOREIGN KEY (exam_id, academic_year) REFERENCES exams (id, academic_year)
) PARTITION BY RANGE (academic_year);
CREATE TABLE results_2022 PARTITION OF results FOR VALUES FROM (2022) TO (2023);
CREATE TABLE results_2023 PARTITION OF results FOR VALUES FROM (2023) TO (2024);
CREATE TABLE results_2024 PARTITION OF results FOR VALUES FROM (2024) TO (2025);
CREATE TABLE results_2025 PARTITION OF results FOR VALUES FROM (2025) TO (2026);
CREATE TABLE results_2026 PARTITION OF results FOR VALUES FROM (2026) TO (2027);
CREATE TABLE results_other PARTITION OF results DEFAULT;
CREATE INDEX results_updated_at ON results (updated_at);
CREATE INDEX results_student ON results (student_id);

CREATE VIEW transcripts AS
  SELECT s.index_number, s.full_name, c.code, x.academic_year, x.kind, r.score, r.grade
  FROM results r
  JOIN students s ON s.id = r.student_id
  JOIN exams x ON x.id = r.exam_id
  JOIN courses c ON c.id = x.course_id;

CREATE VIEW course_averages AS
  SELECT c.code, x.academic_year, round(avg(r.score), 2) AS average, count(r.score) AS scripts
  FROM results r JOIN exams x ON x.id = r.exam_id JOIN courses c ON c.id = x.course_id
  GROUP BY c.code, x.academic_year;

COMMENT ON COLUMN students.region IS 'Where the family lives, as typed.';
COMMENT ON TABLE results IS 'One row a script; score is NULL for whoever was absent.';
COMMENT ON COLUMN results.marks IS 'Marks by question, NULL for a question not attempted.';
COMMENT ON COLUMN exams.difficulty IS 'Of the item analysis; NaN where it divided by zero.';
COMMENT ON COLUMN exams.examiner IS 'Staff number in the hr database.';
