/*
 * stack_switch.S - stack_switch(f, argument, top): calls f(argument) on another stack; see rule.c. Unwound through as
 * any function with a frame pointer.
 */
#if defined(__x86_64__)
        .text
        .globl  stack_switch
        .hidden stack_switch
        .type   stack_switch, @function
        .p2align 4
stack_switch:
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        movq    %rdx, %rsp
        andq    $-16, %rsp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        leave
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   stack_switch, . - stack_switch

/* This object keeps to indirect branch tracking and shadow stacks, as the compiled ones do. */
        .section .note.gnu.property, "a"
        .p2align 3
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 3, 0
#endif
        .section .note.GNU-stack, "", %progbits
