// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Who is believed: an attacker who can send any packet from the router's place, and see what is
 * answered. What must not be believed is refused, counted and harmless: while all that happens, a
 * transfer goes on, and new connections are redirected.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "programs.h"
#include "wire.h"

#define ISN 7000
#define PORT_STREAM 30000 /* the client's, of the transfer beside */

#define NOP "\1"
#define MSS "\2\4\5\xb4"
#define SOME6 "\xfd\0\0\1"

struct options {
	const char *bytes;
	unsigned len;
};
/*
 * Broken ones are kept below 18 bytes in all: from there on newer kernels look for signatures in a
 * header's options first, and drop the packet.
 */
/* clang-format off */
#define OPTIONS(s) { s, sizeof(s) - 1 }
#define NONE { NULL, 0 }
/* clang-format on */

static const struct options *options_of(const struct family *family, const struct options *v4,
					const struct options *v6)
{
	return family->af == AF_INET ? v4 : v6;
}

/* "address:port" in one of four buffers. */
static const char *endpoint(const char *ip, unsigned port)
{
	static char text[4][80];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(text[turn], sizeof(text[0]), strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, port);
	return text[turn];
}

static const char *s2_address(const struct family *family)
{
	return family->af == AF_INET ? "10.0.4.2" : "fd00:1:4::2";
}

/* What is for TCP's @port does not get past the router. */
static void hold(unsigned port)
{
	must("r",
	     "nft 'add table inet hold; add chain inet hold f { type filter hook forward priority "
	     "0; }; add rule inet hold f tcp dport %u drop'",
	     port);
}

static void release(void)
{
	must("r", "nft delete table inet hold");
}

/* The transfer that goes on beside. */
static struct talk *beside_begin(const struct family *family)
{
	struct talk *talk = stream_new(family, STREAM_ENDLESS);

	talk->source_port = PORT_STREAM;
	talk_start(talk);
	stream_progress(talk, 2);
	return talk;
}

/* It has not noticed, nor does a new connection. */
static void beside_finish(const struct family *family, struct talk *beside)
{
	stream_survives(beside);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_outcome("c1", "client_direct", 1);
	expect_outcome("s1", "server_direct", 1);
}

/* The transfer goes on, and what comes by for @port on @link is seen, and not delivered. */
static struct talk *attack_begin(const struct family *family, const char *link, unsigned port)
{
	struct talk *beside = beside_begin(family);

	hold(port);
	wire_begin(link, port);
	return beside;
}

static void attack_end(const struct family *family, struct talk *beside)
{
	wire_end();
	release();
	beside_finish(family, beside);
}

static void reset_receive(struct talk *talk, int fd)
{
	ssize_t n;
	char c;

	event_post(talk->go[0]);
	while ((n = recv(fd, &c, 1, 0)) > 0)
		;
	NEED(n < 0 && errno == ECONNRESET);
}

/* --- SYN-ACKs that nobody's server sent --------------------------------------------------------- */

#define PORT_NOBODY 87 /* of no service: only the attacker answers */
#define NOBODY "\0\x57"

/* Inside of the client's backends (s2), and outside. */
#define INSIDE4 "\xa\0\4\2"
#define OUTSIDE4 "\xc0\0\2\1"
#define INSIDE6 "\xfd\0\0\1\0\4\0\0\0\0\0\0\0\0\0\2"
#define OUTSIDE6 "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1"

#define REST4 INSIDE4 NOBODY "\0\0"
#define GRANT4 "\xfd\xc\x5d\x58" REST4
#define GRANT6 "\xfd\x14\x5d\x5a" INSIDE6

enum dialled { SERVICE, SERVICE_FAST_OPEN, OTHER_ADDRESS };

static const struct answer {
	const char *why;
	struct options v4, v6;
	const char *outcome; /* NULL: none, for the client has not asked */
	enum dialled dialled;
} answers[] = {
	{ "what a server would say", OPTIONS(MSS GRANT4), OPTIONS(MSS GRANT6), "client_direct" },
	{ "outside of the backends", OPTIONS(MSS "\xfd\xc\x5d\x58" OUTSIDE4 NOBODY "\0\0"),
	  OPTIONS(MSS "\xfd\x14\x5d\x5a" OUTSIDE6), "client_out_of_range" },
	{ "the service itself", OPTIONS("\xfd\xc\x5d\x58\xa\x63\0\1" NOBODY "\0\0"),
	  OPTIONS("\xfd\x14\x5d\x5a\xfd\0\0\x99\0\0\0\0\0\0\0\0\0\0\0\1"), "client_out_of_range" },
	{ "the other family's", OPTIONS(MSS GRANT6), OPTIONS(MSS GRANT4), "client_no_grant" },
	{ "another experiment's", OPTIONS("\xfd\xc\x5d\x48" REST4),
	  OPTIONS("\xfd\x14\x5d\x4a" INSIDE6), "client_no_grant" },
	{ "length 0", OPTIONS("\xfd\0\x5d\x58" REST4), OPTIONS("\xfd\0\x5d\x5a" SOME6),
	  "client_bad_grant" },
	{ "length 1", OPTIONS("\xfd\1\x5d\x58" REST4), OPTIONS("\xfd\1\x5d\x5a" SOME6),
	  "client_bad_grant" },
	{ "too short", OPTIONS("\xfd\x8\x5d\x58" INSIDE4), OPTIONS("\xfd\x8\x5d\x5a" SOME6),
	  "client_bad_grant" },
	{ "too long", OPTIONS("\xfd\x10\x5d\x58" REST4 "\0\0\0\0"),
	  OPTIONS("\xfd\x18\x5d\x5a" INSIDE6 "\0\0\0\0"), "client_bad_grant" },
	{ "reaching out of the header", OPTIONS("\xfd\xc\x5d\x58" INSIDE4),
	  OPTIONS("\xfd\x14\x5d\x5a" SOME6), "client_bad_grant" },
	{ "behind a broken option", OPTIONS("\x8\0" NOP NOP GRANT4), NONE, "client_bad_grant" },
	{ "the SYN had room for a short request only", NONE, OPTIONS(MSS GRANT6), "client_direct",
	  SERVICE_FAST_OPEN },
	{ "no service was dialled", OPTIONS(MSS GRANT4), OPTIONS(MSS GRANT6), NULL, OTHER_ADDRESS },
};

/* A request for a cookie, beside which there is room for a short one of IPv6. */
static void fast_open_main(void *arg)
{
	struct talk *talk = arg;
	int af = talk->family->af, fd = tcp_socket(af), on = 1;
	struct sockaddr_storage to = address_of(af, talk->vip, talk->vport);

	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	NEED(!connect(fd, (void *)&to, sizeof(to)));
	reset_receive(talk, fd);
}

/* A SYN-ACK for the SYN @to, or with another @ack. */
static void answer_send(const struct wire_packet *to, const struct options *options, uint32_t ack)
{
	wire_send(&(struct packet_spec){ .src = to->dst,
					 .dst = to->src,
					 .flags = "SA",
					 .options = options->bytes,
					 .options_len = options->len,
					 .seq = ISN,
					 .ack = ack });
}

/*
 * Not before the client knows that it is connected, or it would call that a refusal; and not without
 * a word, or the client would dial the service plainly for a minute.
 */
static void answer_reset(const struct talk *talk, const struct wire_packet *to, uint32_t ack)
{
	assert_true(event_wait(talk->go[0], WAIT_MS));
	wire_send(&(struct packet_spec){ .src = to->dst,
					 .dst = to->src,
					 .flags = "PA",
					 .seq = ISN + 1,
					 .ack = ack,
					 .payload = "?",
					 .payload_len = 1 });
	wire_send(&(struct packet_spec){
		.src = to->dst, .dst = to->src, .flags = "R", .seq = ISN + 2 });
}

/* c1 dials; its SYN. */
static struct talk *answer_dial(const struct family *family, enum dialled dialled,
				struct wire_packet *syn)
{
	struct talk *talk = talk_new(family, PORT_NOBODY, reset_receive, NULL);

	if (dialled == OTHER_ADDRESS)
		talk->vip = s2_address(family);
	if (dialled == SERVICE_FAST_OPEN)
		talk->client_pid = child_start("c1", fast_open_main, talk);
	else
		talk_dial(talk);
	wire_expect(syn, "S");
	assert_string_equal(syn->dst, endpoint(talk->vip, PORT_NOBODY));
	return talk;
}

/* c1 goes on to where it dialled, unless it was granted another place. */
static void answer_run(const struct family *family, const struct answer *answer)
{
	const struct options *options = options_of(family, &answer->v4, &answer->v6);
	bool direct = answer->outcome && !strcmp(answer->outcome, "client_direct");
	struct wire_packet syn, ack;
	struct talk *talk;

	if (!options->bytes)
		return;
	print_message("             grant: %s\n", answer->why);
	counters_mark();
	talk = answer_dial(family, answer->dialled, &syn);
	answer_send(&syn, options, syn.seq + 1);
	wire_expect(&ack, "A");
	assert_string_equal(ack.dst, direct ? endpoint(s2_address(family), PORT_NOBODY) : syn.dst);
	answer_reset(talk, &syn, syn.seq + 1);
	talk_finish(talk);
	expect_outcome("c1", answer->outcome ? answer->outcome : "client_direct",
		       answer->outcome != NULL);
}

/* The kernel refuses it; what it said must leave nothing behind. */
static void answer_wrong_ack(const struct family *family, uint32_t off)
{
	static const struct options v4 = OPTIONS(MSS GRANT4), v6 = OPTIONS(MSS GRANT6), none = NONE;
	struct wire_packet syn, reply;
	struct talk *talk;

	counters_mark();
	talk = answer_dial(family, SERVICE, &syn);
	answer_send(&syn, options_of(family, &v4, &v6), syn.seq + 1 + off);
	wire_expect(&reply, "R");
	assert_string_equal(reply.dst, syn.dst);
	assert_int_equal(reply.seq, syn.seq + 1 + off);

	answer_send(&syn, &none, syn.seq + 1);
	wire_expect(&reply, "A");
	assert_string_equal(reply.dst, syn.dst);
	answer_reset(talk, &syn, syn.seq + 1);
	talk_finish(talk);
	expect_outcome("c1", "client_no_grant", 1);
}

/* RSTs that refuse no SYN of this connection: what they acknowledge, or who sends them, is wrong. */
static void answer_refusals(const struct family *family)
{
	static const struct options v4 = OPTIONS(MSS GRANT4), v6 = OPTIONS(MSS GRANT6);
	const char *outside = family->af == AF_INET ? "192.0.2.1" : "2001:db8::1";
	struct packet_spec refusal = { .flags = "RA" };
	struct wire_packet syn, ack;
	struct talk *talk;

	counters_mark();
	talk = answer_dial(family, SERVICE, &syn);
	refusal.dst = syn.src;
	refusal.src = endpoint(s2_address(family), PORT_NOBODY);
	for (uint32_t off = -1; off != 2; off++) {
		refusal.ack = syn.seq + 1 + off;
		if (off)
			wire_send(&refusal);
	}
	refusal.ack = syn.seq + 1;
	refusal.flags = "R";
	wire_send(&refusal);
	refusal.flags = "RA";
	refusal.src = endpoint(outside, PORT_NOBODY);
	wire_send(&refusal);

	answer_send(&syn, options_of(family, &v4, &v6), syn.seq + 1);
	wire_expect(&ack, "A");
	answer_reset(talk, &syn, syn.seq + 1);
	talk_finish(talk);
	assert_int_equal(counted("c1", "reset_refused"), 0);
	expect_outcome("c1", "client_direct", 1);
}

/* Nobody has dialled at all, or the connection is established long since. */
static void answer_unasked(const struct family *family)
{
	static const struct options v4 = OPTIONS(MSS GRANT4), v6 = OPTIONS(MSS GRANT6);
	const struct options *options = options_of(family, &v4, &v6);
	struct wire_packet syn = {}, reply;

	counters_mark();
	snprintf(syn.src, sizeof(syn.src), "%s", endpoint(family->client, 40000));
	snprintf(syn.dst, sizeof(syn.dst), "%s", endpoint(family->vip, PORT_NOBODY));
	answer_send(&syn, options, 1);
	wire_expect(&reply, "R");
	assert_string_equal(reply.dst, syn.dst);

	snprintf(syn.dst, sizeof(syn.dst), "%s", endpoint(s2_address(family), PORT_NOBODY));
	answer_send(&syn, options, 1);
	wire_expect(&reply, "R"); /* or a forged SYN would keep its place at the server */
	assert_string_equal(reply.dst, syn.dst);
	snprintf(syn.src, sizeof(syn.src), "%s", endpoint(family->client, PORT_STREAM));
	snprintf(syn.dst, sizeof(syn.dst), "%s", endpoint(family->vip, PORT_ONE));
	answer_send(&syn, options, 1);
	talk_run(talk_new(family, PORT_OTHER, echo_client, echo_server));
	assert_int_equal(counted("c1", "synack_dropped"), 0);
	expect_outcome("c1", "client_direct", 1);
}

void case_forged_grants(const struct family *family)
{
	struct talk *beside = attack_begin(family, "to-c1", PORT_NOBODY);

	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++)
		answer_run(family, &answers[i]);
	answer_wrong_ack(family, -1);
	answer_wrong_ack(family, 1);
	answer_wrong_ack(family, 1 << 30);
	answer_refusals(family);
	answer_unasked(family);
	attack_end(family, beside);
}

/* --- a SYN-ACK that comes again, but is not the same -------------------------------------------- */

#define PORT_WATCHED 30001
#define AGAIN_MS 600 /* later than when a SYN-ACK that comes again says that a path is blocked */

static void waits(struct talk *talk, int fd)
{
	NEED(event_wait(talk->go[0], WAIT_MS));
	echo_client(talk, fd);
}

/*
 * A connection that has carried nothing yet is put back on the balancer path by its server's SYN-ACK,
 * if that comes again. Who does not see the packets must guess both numbers. Time is part of it.
 */
void case_forged_again(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_OTHER, waits, echo_server);
	struct wire_packet syn, ack;
	struct packet_spec again = { .src = syn.dst, .dst = syn.src, .flags = "SA" };

	talk->source_port = PORT_WATCHED;
	wire_begin("to-c1", PORT_WATCHED);
	talk_start(talk);
	wire_expect(&syn, "S");
	wire_expect(&ack, "A");
	(void)poll(NULL, 0, AGAIN_MS);
	again.seq = ack.ack - 1;
	again.ack = ack.seq + 1;
	wire_send(&again);
	again.ack = ack.seq - 1;
	wire_send(&again);
	again.seq = ack.ack;
	again.ack = ack.seq;
	wire_send(&again);
	event_post(talk->go[0]);
	talk_finish(talk);
	wire_end();
	expect_direct(1);
}

/* --- SYNs that nobody's client sent ------------------------------------------------------------- */

#define PORT_ATTACKER 5555
#define ATTACKER "\xa\0\4\2" /* s2: its kernel is kept from answering */
#define ATTACKER_PORT "\x15\xb3"
#define VICTIM "\xa\0\x15\2" /* c1 */
#define VIP4 "\xa\x63\0\1"
/* Tags: of the service "other", of s2 with that port, and of c1 with that of its transfer. */
#define TAG_OTHER6 "\x8c\xaa\x3d\x68\x62\x14"
#define TAG_ATTACKER6 "\x22\xb4\x09\x14\x6c\x40"
#define TAG_VICTIM6 "\xe5\xed\x1d\x3f\xb0\xc8"
#define TAG_NOBODY6 "\xbc\x20\x18\x1d\x11\xb6" /* [fd00:99::77]:84 */
#define TAG_ONE6 "\x45\x86\xf0\xc9\x91\x4a"
#define TAG_TWIN6 "\xa0\xd3\xff\x95\x73\x02"
#define OTHER "\0\x54" /* the service "other" */
#define FULL "\xfd\x10\x5d\x52"
#define REQUEST6 "\xfd\x14\x5d\x54"

static const struct asked {
	const char *why;
	struct options v4, v6;
	const char *outcome; /* of the server, NULL: none */
	const char *syn; /* what the SYN alone counts as */
	bool by_balancer;
} asks[] = {
	{ "what a client would say", OPTIONS(MSS FULL VIP4 ATTACKER OTHER ATTACKER_PORT),
	  OPTIONS(MSS REQUEST6 TAG_OTHER6 TAG_ATTACKER6 OTHER ATTACKER_PORT), "server_direct" },
	{ "the same, by a balancer", OPTIONS(MSS FULL VIP4 ATTACKER OTHER ATTACKER_PORT), NONE,
	  "server_direct", "syn_restored", true },
	{ "somebody else's address", OPTIONS(MSS FULL VIP4 VICTIM OTHER ATTACKER_PORT),
	  OPTIONS(MSS REQUEST6 TAG_OTHER6 TAG_VICTIM6 OTHER ATTACKER_PORT),
	  "server_source_mismatch", "syn_untrusted" },
	{ "another port of its own", OPTIONS(MSS FULL VIP4 ATTACKER OTHER "\x15\xb4"), NONE,
	  "server_source_mismatch", "syn_untrusted" },
	{ "the server's own address", OPTIONS(MSS FULL VIP4 "\xa\0\3\2" OTHER "\x1f\x94"), NONE,
	  "server_source_mismatch", "syn_untrusted" },
	{ "a service that nobody has",
	  OPTIONS(MSS FULL "\xa\x63\0\x77" ATTACKER OTHER ATTACKER_PORT),
	  OPTIONS(REQUEST6 TAG_NOBODY6 TAG_ATTACKER6 OTHER ATTACKER_PORT), "server_not_served",
	  "syn_not_served" },
	{ "another port of the service", OPTIONS(FULL VIP4 ATTACKER "\0\x57" ATTACKER_PORT), NONE,
	  "server_not_served", "syn_not_served" },
	{ "the other family's", OPTIONS(MSS REQUEST6 TAG_OTHER6 TAG_ATTACKER6 OTHER ATTACKER_PORT),
	  OPTIONS(MSS FULL VIP4 ATTACKER OTHER ATTACKER_PORT), NULL },
	{ "a grant", OPTIONS(MSS GRANT4), OPTIONS(MSS GRANT6), NULL },
	{ "length 0", OPTIONS("\xfd\0\x5d\x52" VIP4), OPTIONS("\xfd\0\x5d\x54" SOME6),
	  "server_bad_request" },
	{ "length 1", OPTIONS("\xfd\1\x5d\x52" VIP4), OPTIONS("\xfd\1\x5d\x54" SOME6),
	  "server_bad_request" },
	{ "too short", OPTIONS("\xfd\x8\x5d\x52" VIP4),
	  OPTIONS("\xfd\x10\x5d\x54" TAG_OTHER6 TAG_ATTACKER6), "server_bad_request" },
	{ "reaching out of the header", OPTIONS(FULL VIP4), OPTIONS(REQUEST6 SOME6),
	  "server_bad_request" },
	{ "behind a broken option", OPTIONS("\x8\0" NOP NOP "\xfd\x8\x5d\x50" VIP4 NOP NOP NOP NOP),
	  NONE, "server_bad_request" },
};

/* Plays the client's part of a handshake, of which s1's is *@synack. */
static void ask_handshake(const struct family *family, const struct asked *asked,
			  const struct options *options, struct wire_packet *synack)
{
	const char *client = endpoint(s2_address(family), PORT_ATTACKER);
	const char *server = endpoint(family->s1, listen_port(family, PORT_OTHER));
	struct packet_spec spec = { .src = asked->by_balancer ? "10.0.2.77:6666" : client,
				    .dst = server,
				    .flags = "S",
				    .options = options->bytes,
				    .options_len = options->len,
				    .seq = ISN };

	wire_send(&spec);
	wire_expect(synack, "SA");
	assert_string_equal(synack->dst, client);
	assert_int_equal(synack->ack, ISN + 1);
	spec = (struct packet_spec){ client, server, "A", .seq = ISN + 1, .ack = synack->seq + 1 };
	wire_send(&spec);
}

/* The server answers who sent the SYN, and nobody else; and says no more than it would have. */
static void ask_run(const struct family *family, const struct asked *asked)
{
	const struct options *options = options_of(family, &asked->v4, &asked->v6);
	bool granted = asked->outcome && !strcmp(asked->outcome, "server_direct");
	struct talk *talk = talk_new(family, PORT_OTHER, NULL, reset_receive);
	struct wire_packet synack;

	if (!options->bytes) {
		talk_finish(talk);
		return;
	}
	print_message("             request: %s\n", asked->why);
	counters_mark();
	talk_serve(talk);
	ask_handshake(family, asked, options, &synack);
	assert_int_equal(wire_option(&synack) != NULL, granted);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	wire_send(
		&(struct packet_spec){ .src = synack.dst,
				       .dst = endpoint(family->s1, listen_port(family, PORT_OTHER)),
				       .flags = "R",
				       .seq = ISN + 1 });
	talk_finish(talk);
	expect_outcome("s1", asked->outcome ? asked->outcome : "server_direct",
		       asked->outcome != NULL);
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = { "syn_restored", "syn_untrusted",
						     "syn_not_served" };

		assert_int_equal(counted("s1", names[i]),
				 asked->syn && !strcmp(asked->syn, names[i]));
	}
}

/* A SYN as if by the client of the transfer: for its own service, and for another. */
static void ask_in_between(const struct family *family)
{
	static const struct options v4[] = {
		OPTIONS(FULL VIP4 VICTIM "\0\x51\x75\x30"),
		OPTIONS(FULL "\xa\x63\0\2" VICTIM "\0\x51\x75\x30"),
	};
	static const struct options v6[] = {
		OPTIONS(REQUEST6 TAG_ONE6 TAG_VICTIM6 "\0\x51\x75\x30"),
		OPTIONS(REQUEST6 TAG_TWIN6 TAG_VICTIM6 "\0\x51\x75\x30"),
	};

	counters_mark();
	for (int i = 0; i < 2; i++) {
		const struct options *options = options_of(family, &v4[i], &v6[i]);

		wire_send(&(struct packet_spec){
			.src = endpoint(family->client, PORT_STREAM),
			.dst = endpoint(family->s1, listen_port(family, PORT_ONE)),
			.flags = "S",
			.options = options->bytes,
			.options_len = options->len,
			.seq = ISN });
	}
	talk_run(talk_new(family, PORT_OTHER, echo_client, echo_server));
	assert_int_equal(counted("s1", "syn_collision"), 1);
	expect_outcome("s1", "server_direct", 1);
}

void case_forged_requests(const struct family *family)
{
	struct talk *beside = attack_begin(family, "to-s1", PORT_ATTACKER);

	for (size_t i = 0; i < sizeof(asks) / sizeof(*asks); i++)
		ask_run(family, &asks[i]);
	ask_in_between(family);
	attack_end(family, beside);
}

/* --- a SYN in a client's name --------------------------------------------------------------------- */

#define PORT_VICTIM 30100
#define VICTIM_PORT "\x75\x94"
#define ONE "\0\x51" /* the service "one" */
#define AT_ONCE_MS 900 /* before a SYN is sent again */

/*
 * It leaves s1 waiting for c1, which knows nothing of that, and says so. When c1 itself dials from that
 * port, it gets its answer.
 */
void case_forged_syn(const struct family *family)
{
	static const struct options v4 = OPTIONS(MSS FULL VIP4 VICTIM ONE VICTIM_PORT);
	static const struct options v6 =
		OPTIONS(MSS REQUEST6 TAG_ONE6 "\xce\xf3\x96\x85\xf3\x58" ONE VICTIM_PORT);
	const struct options *options = options_of(family, &v4, &v6);
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);
	struct wire_packet reset;
	long begin;

	talk_serve(talk);
	wire_begin("to-c1", PORT_VICTIM);
	wire_send(&(struct packet_spec){ .src = endpoint(family->client, PORT_VICTIM),
					 .dst = endpoint(family->s1, listen_port(family, PORT_ONE)),
					 .flags = "S",
					 .options = options->bytes,
					 .options_len = options->len,
					 .seq = ISN });
	wire_expect(&reset, "R");
	assert_int_equal(reset.seq, ISN + 1);
	talk->source_port = PORT_VICTIM;
	begin = now_ms();
	talk_dial(talk);
	talk_finish(talk);
	wire_end();
	if (now_ms() - begin >= AT_ONCE_MS)
		fail_msg("it took %ld ms", now_ms() - begin);
	expect_outcome("c1", "client_direct", 1);
	assert_int_equal(counted("s1", "syn_collision"), 0);
}
