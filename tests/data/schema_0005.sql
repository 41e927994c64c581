-- A database that syncd 0.1 wrote (schema 0005), for the test that it is taken over.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE halo_rows (
	id BIGINT NOT NULL, 
	intent_id VARCHAR(255), 
	invoice_id BIGINT, 
	amount VARCHAR(60), 
	status BIGINT, made BIGINT, invoice_number VARCHAR(100), 
	PRIMARY KEY (id)
);
INSERT INTO "halo_rows" VALUES(28,'pi_1',1001,NULL,3,1795500000,'INV-1001');
INSERT INTO "halo_rows" VALUES(29,'pi_2',1002,NULL,5,NULL,NULL);
CREATE TABLE lease (
	name VARCHAR(20) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	what VARCHAR(40) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	boot VARCHAR(64) NOT NULL, 
	pid INTEGER NOT NULL, 
	until FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "lease" VALUES('push','me','the daemon','host','boot',7,1795500120.0);
CREATE TABLE notes (
	name VARCHAR(80) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "notes" VALUES('watermark','1795500009');
INSERT INTO "notes" VALUES('last_poll','1795500025');
INSERT INTO "notes" VALUES('last_push','1795500026');
INSERT INTO "notes" VALUES('last_sweep','1795500000');
INSERT INTO "notes" VALUES('stripe_mode','live');
INSERT INTO "notes" VALUES('halo_rows','2');
INSERT INTO "notes" VALUES('gap','{"from": 1795000000, "to": 1795400000, "filled_at": 1795500001, "intents": 2}');
INSERT INTO "notes" VALUES('link halo','{"reason": "Halo answers 503.", "since": 1795500020.5}');
INSERT INTO "notes" VALUES('push_resume','pi_3');
INSERT INTO "notes" VALUES('push_batch','25');
INSERT INTO "notes" VALUES('config halo.status','[(''processing'', ''5''), (''succeeded'', ''3'')]');
CREATE TABLE payments (
	intent_id VARCHAR(255) NOT NULL, 
	state VARCHAR(20), 
	said_at BIGINT NOT NULL, 
	read BOOLEAN NOT NULL, 
	created BIGINT, 
	amount BIGINT, 
	amount_received BIGINT, 
	currency VARCHAR(4), 
	invoice VARCHAR(100), 
	event_id VARCHAR(255), 
	trace TEXT, 
	heard TEXT NOT NULL, 
	final BOOLEAN NOT NULL, 
	condition VARCHAR(20) NOT NULL, 
	code VARCHAR(40), 
	reason TEXT, 
	dismissed BOOLEAN NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_try FLOAT, 
	looks INTEGER NOT NULL, 
	doubt_until FLOAT, 
	acked_state VARCHAR(20), 
	acked_at FLOAT, 
	rows TEXT, 
	changed_at FLOAT NOT NULL, seen_rows TEXT, 
	PRIMARY KEY (intent_id)
);
INSERT INTO "payments" VALUES('pi_1','succeeded',1795500001,0,1795499900,1099,1099,'usd','1001','evt_1',NULL,'event:succeeded:1795500001',1,'in_step',NULL,NULL,0,0,NULL,0,NULL,'succeeded',1795500023.0,'28',1795500023.0,'[[28, 1001, "INV-1001"]]');
INSERT INTO "payments" VALUES('pi_2','succeeded',1795500002,0,1795499900,1099,1099,'usd','1002','evt_2','{"id":"pi_2"}','event:succeeded:1795500002',1,'held','amount_mismatch','The amounts of rows 29 differ.',0,0,NULL,0,NULL,NULL,NULL,NULL,1795500023.0,NULL);
INSERT INTO "payments" VALUES('pi_3','processing',1795500003,0,1795499900,1099,1099,'usd','1003','evt_3','{"id":"pi_3"}','event:processing:1795500003',0,'due',NULL,NULL,0,0,1795500020.5,0,NULL,NULL,NULL,NULL,1795500020.5,NULL);
INSERT INTO "payments" VALUES('pi_4','succeeded',1795500004,0,1795499900,1099,1099,'usd','1004','evt_4','{"id":"pi_4"}','event:succeeded:1795500004',1,'unmatched',NULL,NULL,0,0,1795500600.0,2,NULL,NULL,NULL,NULL,1795500023.0,NULL);
INSERT INTO "payments" VALUES('pi_5','payment_failed',1795500005,0,1795499900,1099,1099,'usd','1005','evt_5','{"id":"pi_5"}','event:payment_failed:1795500005',0,'failed','halo_refuses','Halo refuses row 31.',0,5,1795503600.0,0,NULL,NULL,NULL,NULL,1795500023.0,NULL);
INSERT INTO "payments" VALUES('pi_6','canceled',1795500006,0,1795499900,1099,1099,'usd','1006','evt_6',NULL,'event:canceled:1795500006',1,'not_halos',NULL,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,1795500023.0,NULL);
INSERT INTO "payments" VALUES('pi_7',NULL,1795500007,1,1795499900,1099,1099,'usd','1007',NULL,'{"id":"pi_7"}','intent:none:1795500007',0,'no_state',NULL,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,1795500020.5,NULL);
INSERT INTO "payments" VALUES('pi_8','requires_action',1795500008,0,1795499900,1099,1099,'usd','1008','evt_8b','{"id":"pi_8"}','event:processing:1795500008 event:requires_action:1795500008',0,'in_doubt',NULL,NULL,0,0,NULL,0,NULL,NULL,NULL,NULL,1795500020.5,NULL);
INSERT INTO "payments" VALUES('pi_9','succeeded',1795500009,0,1795499900,1099,1099,'usd','1009','evt_9','{"id":"pi_9"}','event:succeeded:1795500009',1,'due',NULL,NULL,0,0,1795500020.5,0,1795504000.0,NULL,NULL,NULL,1795500020.5,NULL);
CREATE TABLE pushes (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	intent_id VARCHAR(255) NOT NULL, 
	old TEXT NOT NULL, 
	new VARCHAR(20) NOT NULL, 
	lag_seconds FLOAT, 
	rows TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "pushes" VALUES(1,1795500022.0,'pi_1','processing (5)','succeeded',21.0,'28');
CREATE TABLE requests (
	side VARCHAR(10) NOT NULL, 
	bucket BIGINT NOT NULL, 
	number INTEGER NOT NULL, 
	PRIMARY KEY (side, bucket)
);
CREATE TABLE reversals (
	id VARCHAR(255) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	intent_id VARCHAR(255) NOT NULL, 
	amount BIGINT, 
	currency VARCHAR(4), 
	status VARCHAR(40) NOT NULL, 
	reason VARCHAR(80), 
	created BIGINT, 
	at BIGINT NOT NULL, 
	read BOOLEAN NOT NULL, 
	total BOOLEAN NOT NULL, 
	stand VARCHAR(10) NOT NULL, 
	word VARCHAR(40) NOT NULL, 
	dismissed VARCHAR(40), 
	of_halos BOOLEAN, 
	changed_at FLOAT NOT NULL, seen_rows TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "reversals" VALUES('re_1','refunded','pi_1',500,'usd','succeeded','requested_by_customer',1795500010,1795500011,1,0,'gone','gone:500',NULL,NULL,1795500020.5,NULL);
INSERT INTO "reversals" VALUES('dp_1','disputed','pi_old',1099,'eur','needs_response','fraudulent',1795500000,1795500001,1,0,'open','open:1099',NULL,NULL,1795500020.5,NULL);
CREATE TABLE seen_events (
	event_id VARCHAR(255) NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (event_id)
);
INSERT INTO "seen_events" VALUES('evt_1',1795500001);
INSERT INTO "seen_events" VALUES('evt_2',1795500002);
INSERT INTO "seen_events" VALUES('evt_3',1795500003);
INSERT INTO "seen_events" VALUES('evt_4',1795500004);
INSERT INTO "seen_events" VALUES('evt_5',1795500005);
INSERT INTO "seen_events" VALUES('evt_6',1795500006);
INSERT INTO "seen_events" VALUES('evt_8',1795500008);
INSERT INTO "seen_events" VALUES('evt_8b',1795500008);
INSERT INTO "seen_events" VALUES('evt_9',1795500009);
CREATE TABLE sent (
	intent_id VARCHAR(255) NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (intent_id)
);
INSERT INTO "sent" VALUES('pi_1',1795500021.0);
INSERT INTO "sent" VALUES('pi_9',1795500022.0);
CREATE TABLE unreadable (
	id VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	at BIGINT, 
	seen_at FLOAT NOT NULL, 
	dismissed BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "unreadable" VALUES('evt_odd','The event cannot be read.',1795500000,1795500020.5,1);
CREATE INDEX payments_due ON payments (condition, next_try);
CREATE INDEX payments_final ON payments (final, created);
CREATE INDEX payments_changed ON payments (changed_at);
CREATE INDEX seen_events_at ON seen_events (at);
CREATE INDEX halo_rows_intent ON halo_rows (intent_id);
CREATE INDEX pushes_at ON pushes (at);
CREATE INDEX reversals_intent ON reversals (intent_id);
CREATE INDEX sent_at ON sent (at);
COMMIT;
