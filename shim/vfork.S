/*
 * vfork.S - vfork and the exec family: calls that bear no C frame of ours.
 *
 * vfork returns twice, the first time in a child that goes on with our stack: a frame of ours would be overwritten
 * before the parent comes back to it. So the return address waits in a register, as in libc's own vfork, and the
 * system call is made here. self.in_vfork (forward only) is raised before it, as the child may be interrupted by a signal
 * at once; what it was stands in another register, and the parent puts it back: right for a vfork inside a vfork child
 * too, and however the child ends.
 *
 * exec*: some take their arguments as variadics, which a C wrapper would have to copy. The registers are kept, what
 * wrap_process.c wants to see is seen, and the real function is entered as if it had been called.
 */
#include "shim/vfork.h"

#if defined(__x86_64__)

        .text

        .globl  vfork
        .type   vfork, @function
        .p2align 4
vfork:
        .cfi_startproc
        endbr64
        popq    %rdi                    /* the kernel keeps rdi and rdx, not the stack's content */
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rdi
        movq    self@gottpoff(%rip), %rdx
        movl    %fs:SELF_IN_VFORK(%rdx), %esi
        movl    $1, %fs:SELF_IN_VFORK(%rdx)
        movl    $58, %eax               /* SYS_vfork */
        syscall
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
        testl   %eax, %eax
        jz      .Lchild
        movl    %esi, %fs:SELF_IN_VFORK(%rdx)
        js      .Lfailed                /* mov leaves the flags alone */
        ret
.Lchild:
        /* Where return addresses are also kept in a shadow stack, that is shared with the parent, who returns later:
         * leave without taking from it. */
        xorl    %esi, %esi
        rdsspq  %rsi
        testq   %rsi, %rsi
        jnz     .Lshadow
        ret
.Lshadow:
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rdi
        jmp     *%rdi
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rip, 0
.Lfailed:
        negl    %eax
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        call    __errno_location@PLT
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        movl    %ecx, (%rax)
        movl    $-1, %eax
        ret
        .cfi_endproc
        .size   vfork, . - vfork

/* Seven registers may hold arguments (al: how many vector registers do, for variadics); none of them is a vector. */
.macro EXEC name, index
        .globl  \name
        .type   \name, @function
        .p2align 4
\name:
        .cfi_startproc
        endbr64
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        pushq   %rcx
        .cfi_adjust_cfa_offset 8
        pushq   %r8
        .cfi_adjust_cfa_offset 8
        pushq   %r9
        .cfi_adjust_cfa_offset 8
        pushq   %rax
        .cfi_adjust_cfa_offset 8
        movl    $\index, %edi
        call    before_exec
        movq    %rax, %r11
        popq    %rax
        .cfi_adjust_cfa_offset -8
        popq    %r9
        .cfi_adjust_cfa_offset -8
        popq    %r8
        .cfi_adjust_cfa_offset -8
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     *%r11
        .cfi_endproc
        .size   \name, . - \name
.endm

        EXEC    execve, EXEC_EXECVE
        EXEC    execv, EXEC_EXECV
        EXEC    execvp, EXEC_EXECVP
        EXEC    execvpe, EXEC_EXECVPE
        EXEC    execl, EXEC_EXECL
        EXEC    execlp, EXEC_EXECLP
        EXEC    execle, EXEC_EXECLE
        EXEC    fexecve, EXEC_FEXECVE
        EXEC    execveat, EXEC_EXECVEAT

/* This object keeps to indirect branch tracking and shadow stacks, as the compiled ones do. */
        .section .note.gnu.property, "a"
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 3, 0

#else
#error "vfork and exec are written for x86-64 only"
#endif

        .section .note.GNU-stack, "", @progbits
