-- Splits the tables by issuer over the servers of a Citus database. Their owner runs this once,
-- after the first migration and before grants.sql and the first issuer.
-- docs/scaling.md says what comes before and after.

-- Citus makes a trigger on every shard only for who asks for it. Ours refuses, and looks at nothing.
SET citus.enable_unsafe_triggers = on;

-- A table that is split cannot refer to one that is not yet, nor the other way round.
ALTER TABLE manifests DROP CONSTRAINT manifests_issuer_id_fkey;
ALTER TABLE manifest_hosts DROP CONSTRAINT manifest_hosts_issuer_id_fkey;
ALTER TABLE cards DROP CONSTRAINT cards_issuer_id_fkey;
ALTER TABLE card_feeds DROP CONSTRAINT card_feeds_issuer_id_fkey;
ALTER TABLE pin_changes DROP CONSTRAINT pin_changes_issuer_id_card_id_fkey;
ALTER TABLE card_scripts DROP CONSTRAINT card_scripts_issuer_id_card_id_fkey;
ALTER TABLE control_tokens DROP CONSTRAINT control_tokens_issuer_id_card_id_fkey;

-- Few rows: every server has a copy of them.
SELECT create_reference_table('alembic_version');
SELECT create_reference_table('issuers');
SELECT create_reference_table('manifests');
SELECT create_reference_table('manifest_hosts');

-- All rows of an issuer are on one server, in one shard of each table.
SELECT create_distributed_table('cards', 'issuer_id');
SELECT create_distributed_table('card_feeds', 'issuer_id', colocate_with => 'cards');
SELECT create_distributed_table('pin_changes', 'issuer_id', colocate_with => 'cards');
SELECT create_distributed_table('card_scripts', 'issuer_id', colocate_with => 'cards');
SELECT create_distributed_table('audit_events', 'issuer_id', colocate_with => 'cards');
SELECT create_distributed_table('control_tokens', 'issuer_id', colocate_with => 'cards');

ALTER TABLE manifests ADD CONSTRAINT manifests_issuer_id_fkey
    FOREIGN KEY (issuer_id) REFERENCES issuers (issuer_id);
ALTER TABLE manifest_hosts ADD CONSTRAINT manifest_hosts_issuer_id_fkey
    FOREIGN KEY (issuer_id) REFERENCES issuers (issuer_id);
ALTER TABLE cards ADD CONSTRAINT cards_issuer_id_fkey
    FOREIGN KEY (issuer_id) REFERENCES issuers (issuer_id);
ALTER TABLE card_feeds ADD CONSTRAINT card_feeds_issuer_id_fkey
    FOREIGN KEY (issuer_id) REFERENCES issuers (issuer_id);
ALTER TABLE pin_changes ADD CONSTRAINT pin_changes_issuer_id_card_id_fkey
    FOREIGN KEY (issuer_id, card_id) REFERENCES cards (issuer_id, card_id);
ALTER TABLE card_scripts ADD CONSTRAINT card_scripts_issuer_id_card_id_fkey
    FOREIGN KEY (issuer_id, card_id) REFERENCES cards (issuer_id, card_id);
ALTER TABLE control_tokens ADD CONSTRAINT control_tokens_issuer_id_card_id_fkey
    FOREIGN KEY (issuer_id, card_id) REFERENCES cards (issuer_id, card_id);
