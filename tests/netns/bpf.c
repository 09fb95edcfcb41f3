// Attaches an eBPF program that drops all packets to an interface, or that refuses connect(2) to a
// cgroup, until standard input ends.
// Usage: bpf xdp|tcx-ingress|tcx-egress INTERFACE, or bpf connect4 CGROUP

#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

int main(int argc, char **argv)
{
	// Numbers that older headers lack: BPF_TCX_INGRESS and BPF_TCX_EGRESS.
	int at = argc != 3 ? -1 : !strcmp(argv[1], "xdp") ? BPF_XDP
		: !strcmp(argv[1], "tcx-ingress") ? 46
		: !strcmp(argv[1], "tcx-egress") ? 47
		: !strcmp(argv[1], "connect4") ? BPF_CGROUP_INET4_CONNECT : -1;
	if (at < 0) {
		fprintf(stderr, "usage: bpf xdp|tcx-ingress|tcx-egress|connect4 PLACE\n");
		return 2;
	}
	int is_xdp = at == BPF_XDP, is_cgroup = at == BPF_CGROUP_INET4_CONNECT;
	// r0 = XDP_DROP, TC_ACT_SHOT, or 0 (EPERM); exit
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = is_xdp ? XDP_DROP : is_cgroup ? 0 : 2 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = is_xdp ? BPF_PROG_TYPE_XDP
			: is_cgroup ? BPF_PROG_TYPE_CGROUP_SOCK_ADDR : BPF_PROG_TYPE_SCHED_CLS,
		.insn_cnt = 2,
		.insns = (unsigned long)code,
		.license = (unsigned long)"GPL",
		.expected_attach_type = at,
	};
	int program = bpf(BPF_PROG_LOAD, &load);
	if (program < 0) {
		perror("BPF_PROG_LOAD");
		return 1;
	}
	union bpf_attr link = { .link_create = {
		.prog_fd = program,
		.target_fd = is_cgroup ? open(argv[2], O_RDONLY | O_DIRECTORY) : if_nametoindex(argv[2]),
		.attach_type = at,
		// XDP_FLAGS_SKB_MODE
		.flags = is_xdp ? 2 : 0,
	} };
	if (bpf(BPF_LINK_CREATE, &link) < 0) {
		perror("BPF_LINK_CREATE");
		return 1;
	}
	puts("attached");
	fflush(stdout);
	char byte;
	while (read(0, &byte, 1) > 0) {
	}
	return 0;
}
