/*
 * syscall.S - syscall(2) by number: the few numbers that programs use behind libc's back go to watched_syscall, all
 * others straight to the real one, without a frame of ours: a clone or vfork returns twice.
 *
 * Before the real one is known the system call is made here, as libc would.
 */
#include <sys/syscall.h>

        .text
        .globl  syscall
        .type   syscall, %function
        .p2align 4
#if defined(__x86_64__)
syscall:
        .cfi_startproc
        endbr64
        cmpq    $SYS_close, %rdi
        je      1f
        cmpq    $SYS_futex, %rdi
        je      1f
        cmpq    $SYS_prctl, %rdi
        je      1f
        cmpq    $SYS_dup3, %rdi
        jb      2f
        je      1f
        cmpq    $SYS_recvmmsg, %rdi
        je      1f
        cmpq    $SYS_sendmmsg, %rdi
        je      1f
        cmpq    $SYS_seccomp, %rdi
        je      1f
        cmpq    $436, %rdi              /* close_range */
        je      1f
        cmpq    $449, %rdi              /* futex_waitv */
        je      1f
2:      movq    real_tail_syscall(%rip), %rax
        testq   %rax, %rax
        jz      3f
        jmp     *%rax
1:      jmp     watched_syscall         /* the seventh word stands on the stack for it too */
3:      movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        movq    %r8, %r10
        movq    %r9, %r8
        movq    8(%rsp), %r9
        syscall
        cmpq    $-4095, %rax
        jae     4f
        ret
4:      negl    %eax
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        call    *__errno_location@GOTPCREL(%rip)
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        movl    %ecx, (%rax)
        movq    $-1, %rax
        ret
        .cfi_endproc
#elif defined(__aarch64__)
syscall:
        .cfi_startproc
        hint    34                      /* bti c */
        cmp     x0, #SYS_close
        b.eq    1f
        cmp     x0, #SYS_futex
        b.eq    1f
        cmp     x0, #SYS_prctl
        b.eq    1f
        cmp     x0, #SYS_dup3
        b.eq    1f
        cmp     x0, #SYS_recvmmsg
        b.eq    1f
        cmp     x0, #SYS_sendmmsg
        b.eq    1f
        cmp     x0, #SYS_seccomp
        b.eq    1f
        cmp     x0, #436                /* close_range */
        b.eq    1f
        cmp     x0, #449                /* futex_waitv */
        b.eq    1f
        adrp    x16, real_tail_syscall
        ldr     x16, [x16, :lo12:real_tail_syscall]
        cbz     x16, 3f
        br      x16
1:      b       watched_syscall
3:      mov     x8, x0
        mov     x0, x1
        mov     x1, x2
        mov     x2, x3
        mov     x3, x4
        mov     x4, x5
        mov     x5, x6
        svc     #0
        cmn     x0, #4095
        b.cs    4f
        ret
4:      stp     x29, x30, [sp, #-32]!
        .cfi_adjust_cfa_offset 32
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        str     x0, [sp, #16]
        bl      __errno_location
        ldr     x1, [sp, #16]
        neg     w1, w1
        str     w1, [x0]
        mov     x0, #-1
        ldp     x29, x30, [sp], #32
        .cfi_restore x29
        .cfi_restore x30
        .cfi_adjust_cfa_offset -32
        ret
        .cfi_endproc
#endif
        .size   syscall, . - syscall

#if defined(__x86_64__)
        /* says that this object keeps indirect-branch tracking and shadow stacks possible */
        .section .note.gnu.property, "a"
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 3, 0
#endif
        .section .note.GNU-stack, "", %progbits
