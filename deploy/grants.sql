-- What the service may do in its database, and no more. The schema's owner, or a superuser, runs
-- this with psql after every migration; to run it again changes nothing.
\set ON_ERROR_STOP on
BEGIN;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, cms_service;
GRANT USAGE ON SCHEMA public TO cms_service;

GRANT SELECT ON
    issuers, manifests, manifest_hosts, cards, pin_changes, control_tokens, alembic_version
TO cms_service;
GRANT INSERT ON manifest_hosts, pin_changes, audit_events, control_tokens
TO cms_service;
-- A PIN change begins a script and ends the one before; the rest of its life is the operator's.
GRANT SELECT (issuer_id, card_id, counter, confirmed_at, superseded_at) ON card_scripts
TO cms_service;
GRANT INSERT (issuer_id, card_id, counter, sealed_earlier_pin) ON card_scripts TO cms_service;
GRANT UPDATE (state, superseded_at, sealed_earlier_pin) ON card_scripts TO cms_service;
GRANT UPDATE (version, outcome, at) ON manifest_hosts TO cms_service;
GRANT UPDATE (
    state, personalised, sealed_pin, sealed_pvv, sealed_offset_3624, sealed_prw, sealed_script,
    pin_type, pin_changed_at, counter
) ON cards TO cms_service;
GRANT UPDATE (
    consumed_at, session_hash, session_expires_at, session_ends_at, tries, ended_at, end_reason,
    sealed_tzpk
) ON control_tokens TO cms_service;
GRANT DELETE ON control_tokens TO cms_service;
COMMIT;
