-- Money lost: an item of an account or processor without terms that is never due, because there are none for the others.
select 'processors' as seed
where not exists (select 1 from {{ ref('processors') }} where processor = '*')
union all
select 'bank_account_terms'
where not exists (select 1 from {{ ref('bank_account_terms') }} where bank_account = '*')
