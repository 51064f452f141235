-- The sandbox's payment system: the tables a user's own system would have.
create schema payments;

create table payments.merchants (
    merchant_id text primary key,
    merchant_name text not null,
    country text not null,
    model text not null check (model in ('principal', 'platform')),
    settlement_currency text not null,
    platform_fee_bps integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index on payments.merchants (updated_at);

create table payments.payment_methods (
    payment_method_id text primary key,
    token text not null unique,
    method_type text not null check (method_type in ('card', 'wallet', 'bank_transfer')),
    network text not null,
    bin text,
    last4 text,
    issuer_country text,
    created_at timestamptz not null
);
create index on payments.payment_methods (created_at);

create table payments.payments (
    payment_id text primary key,
    merchant_id text not null references payments.merchants,
    payment_method_id text not null references payments.payment_methods,
    merchant_reference text not null,
    market text not null,
    processor text not null,
    processor_account text not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    status text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index on payments.payments (updated_at);

create table payments.payment_attempts (
    attempt_id text primary key,
    payment_id text not null references payments.payments,
    processor text not null,
    attempt_no integer not null,
    outcome text not null
        check (outcome in ('authorised', 'declined', 'error', 'risk_blocked', 'authentication_failed')),
    decline_code text,
    three_ds text not null check (three_ds in ('none', 'frictionless', 'challenged')),
    latency_ms integer not null,
    attempted_at timestamptz not null
);
create index on payments.payment_attempts (attempted_at);

create table payments.captures (
    capture_id text primary key,
    payment_id text not null references payments.payments,
    processor text not null,
    psp_reference text,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    captured_at timestamptz not null,
    updated_at timestamptz not null
);
create index on payments.captures (updated_at);

create table payments.refunds (
    refund_id text primary key,
    payment_id text not null references payments.payments,
    capture_id text not null references payments.captures,
    processor text not null,
    psp_reference text,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    status text not null check (status in ('pending', 'succeeded', 'failed')),
    refunded_at timestamptz not null,
    updated_at timestamptz not null
);
create index on payments.refunds (updated_at);

create table payments.disputes (
    dispute_id text not null,
    stage text not null check (stage in ('chargeback', 'won', 'lost')),
    payment_id text not null references payments.payments,
    capture_id text not null references payments.captures,
    processor text not null,
    psp_reference text,
    reason_code text not null,
    is_fraud boolean not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    stage_at timestamptz not null,
    primary key (dispute_id, stage)
);
create index on payments.disputes (stage_at);

create table payments.payouts (
    payout_id text primary key,
    merchant_id text not null references payments.merchants,
    bank_account text not null,
    bank_reference text not null,
    amount_minor bigint not null check (amount_minor > 0),
    fee_minor bigint not null,
    currency text not null,
    status text not null check (status in ('sent', 'paid', 'returned')),
    sent_at timestamptz not null,
    updated_at timestamptz not null
);
create index on payments.payouts (updated_at);

create table payments.fx_conversions (
    fx_conversion_id text primary key,
    bank_reference text not null unique,
    sell_bank_account text not null,
    sell_amount_minor bigint not null,
    sell_currency text not null,
    buy_bank_account text not null,
    buy_amount_minor bigint not null,
    buy_currency text not null,
    rate numeric not null,
    executed_at timestamptz not null,
    value_date date not null,
    updated_at timestamptz not null
);
create index on payments.fx_conversions (updated_at);

create table payments.ledger_entries (
    ledger_entry_id text primary key,
    bank_account text not null,
    amount_minor bigint not null,
    currency text not null,
    source_type text not null,
    source_id text not null,
    booked_at timestamptz not null
);
create index on payments.ledger_entries (booked_at);

create table payments.fee_schedules (
    fee_schedule_id text primary key,
    processor text not null,
    method_type text not null,
    network text not null,
    market text not null,
    fee_type text not null,
    item_type text not null,
    billing text not null,
    pricing text not null,
    tier_basis text not null,
    tier_from_minor bigint not null,
    charged_per text not null,
    pct_bps numeric not null,
    fixed_minor bigint not null,
    minimum_minor bigint,
    maximum_minor bigint,
    currency text not null,
    valid_from date not null,
    valid_to date,
    updated_at timestamptz not null,
    unique (processor, method_type, network, market, fee_type, item_type, tier_from_minor, currency, valid_from)
);
create index on payments.fee_schedules (updated_at);

-- Not part of the payment system: which days of the simulated world this database holds.
create schema simulation;

create table simulation.world (
    only_row boolean primary key default true check (only_row),
    seed bigint not null,
    payments_per_day integer not null
);

create table simulation.days (
    day date primary key
);
